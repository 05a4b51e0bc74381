"""What each certificate may be used for, read back with an X.509 parser."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from coordinator.enrolment.ca import Authority, create_authority, issue_client, issue_server
from ravan.errors import ConfigError, ErrorReason, IdentityError
from ravan.identity.certificates import Caller, Rank, Role, describe_authority, is_issued_by, read_caller
from ravan.identity.keys import new_tls_key, requested_key

NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def authority() -> Authority:
    return create_authority(NOW)


def client(authority: Authority, role: Role = Role.AGENT, name: str = "plant-7") -> x509.Certificate:
    return issue_client(authority, new_tls_key().public_key(), role=role, name=name, now=NOW)


def server(authority: Authority, *hosts: str) -> x509.Certificate:
    return issue_server(authority, new_tls_key().public_key(), hosts=hosts, now=NOW)


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def usages(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_each_leaf_has_exactly_one_use_and_is_no_authority(authority: Authority) -> None:
    for certificate, use in (
        (client(authority), ExtendedKeyUsageOID.CLIENT_AUTH),
        (client(authority, Role.OPERATOR, "admin"), ExtendedKeyUsageOID.CLIENT_AUTH),
        (server(authority, "hq.example"), ExtendedKeyUsageOID.SERVER_AUTH),
    ):
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert usages(certificate) == [use]
        assert constraints.critical
        assert not constraints.value.ca
        assert not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
        assert is_issued_by(certificate, authority.certificate)


def test_the_authority_signs_leaves_only(authority: Authority) -> None:
    constraints = authority.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    assert not is_issued_by(client(create_authority(NOW)), authority.certificate)


def test_names_come_from_the_token_never_from_the_request(authority: Authority) -> None:
    key = new_tls_key()
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")]))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier("ravan:operator:admin"), x509.DNSName("hq.example")]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    certificate = issue_client(authority, requested_key(request), role=Role.AGENT, name="plant-7", now=NOW)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier("ravan:site:plant-7")]
    assert certificate.subject.rfc4514_string() == "CN=plant-7"
    assert usages(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.public_key() == key.public_key()


def test_the_server_answers_for_its_hosts_and_loopback(authority: Authority) -> None:
    certificate = server(authority, "HQ.example", "192.0.2.7")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["hq.example", "localhost"]
    addresses = {ipaddress.ip_address(text) for text in ("192.0.2.7", "127.0.0.1", "::1")}
    assert set(names.get_values_for_type(x509.IPAddress)) == addresses


@pytest.mark.parametrize("host", ["", "https://hq", "hq:8443", "a b", "-hq", "x" * 300, "hq..example"])
def test_a_bad_host_name_is_refused(authority: Authority, host: str) -> None:
    with pytest.raises(ConfigError) as caught:
        server(authority, host)
    assert caught.value.reason is ErrorReason.CONFIG_INVALID


@pytest.mark.parametrize("name", ["", "Plant", "a:b", "../x", "x" * 64, "plant-"])
def test_a_bad_client_name_is_refused(authority: Authority, name: str) -> None:
    with pytest.raises(ConfigError):
        client(authority, name=name)


def test_validity_begins_a_day_ago(authority: Authority) -> None:
    certificate = client(authority)
    assert certificate.not_valid_before_utc == datetime.fromtimestamp(NOW, UTC) - timedelta(days=1)
    assert certificate.not_valid_after_utc == datetime.fromtimestamp(NOW, UTC) + timedelta(days=365)


def test_a_caller_is_read_from_its_certificate(authority: Authority) -> None:
    certificate = client(authority, Role.OPERATOR, "admin")
    serial = f"{certificate.serial_number:x}"
    expected = Caller(role=Role.OPERATOR, name="admin", serial=serial, rank=Rank.ADMIN)
    assert read_caller(pem(certificate)) == expected


def test_other_certificates_are_no_callers(authority: Authority) -> None:
    for certificate in (server(authority, "hq.example"), authority.certificate):
        with pytest.raises(IdentityError) as caught:
            read_caller(pem(certificate))
        assert caught.value.reason is ErrorReason.PERMISSION_DENIED


@pytest.mark.parametrize(
    "uris",
    [["ravan:root:plant-7"], ["ravan:site:"], ["ravan:site:a:b"], ["http://x"], ["ravan:site:a", "ravan:site:b"]],
)
def test_strange_names_are_no_callers(authority: Authority, uris: list[str]) -> None:
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.certificate.subject)
        .public_key(ec.generate_private_key(ec.SECP256R1()).public_key())
        .serial_number(5)
        .not_valid_before(datetime.fromtimestamp(NOW, UTC))
        .not_valid_after(datetime.fromtimestamp(NOW, UTC) + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris]), critical=False
        )
        .sign(authority.key, hashes.SHA256())
    )
    with pytest.raises(IdentityError) as caught:
        read_caller(pem(certificate))
    assert caught.value.reason is ErrorReason.PERMISSION_DENIED


def test_an_authority_is_described_by_name_and_fingerprint(authority: Authority) -> None:
    text = describe_authority(pem(authority.certificate))
    assert authority.certificate.fingerprint(hashes.SHA256()).hex()[:16] in text
    assert "Ravan CA" in text
