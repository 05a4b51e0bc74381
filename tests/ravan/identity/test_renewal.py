"""When a certificate is renewed, and what a site signs for it."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given
from hypothesis import strategies as st

from coordinator.enrolment.ca import create_authority, issue_client
from ravan.errors import ErrorReason, IdentityError
from ravan.identity.certificates import Role, pem_of
from ravan.identity.keys import new_tls_key, raw_public
from ravan.identity.renewal import Renewal, due_within, renewal_due
from ravan.ids import SiteId

DAY_S = 86_400.0
NOW = 1_700_000_000.0
IDENTITY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
VECTORS = Path(__file__).parents[2] / "vectors" / "identity" / "v1" / "statements.json"
RENEWAL = Renewal(site=SiteId("plant-7"), serial="ab12", tls_csr=b"request", challenge=b"c" * 56)

times = st.floats(min_value=0.0, max_value=4e9)
serials = st.integers(min_value=1, max_value=2**159).map("{:x}".format)


@given(times, st.floats(min_value=1.0, max_value=1e9), serials)
def test_renewal_is_due_between_two_thirds_and_three_quarters_of_life(begins: float, life: float, serial: str) -> None:
    part = (due_within(begins, begins + life, serial) - begins) / life
    assert 0.6666 < part < 0.7501
    assert due_within(begins, begins + life, serial) == due_within(begins, begins + life, serial)


def test_sites_that_enrolled_together_do_not_renew_together() -> None:
    moments = sorted(due_within(0.0, 30 * DAY_S, f"{number:x}") for number in range(1, 1001))
    assert moments[-1] - moments[0] > 2.4 * DAY_S
    in_an_hour = max(sum(start <= each < start + 3600 for each in moments) for start in moments)
    # a thousand over sixty hours are 17 an hour; 45 would be seven standard deviations above
    assert in_an_hour < 45


@pytest.mark.parametrize("days", [1, 7, 30, 365])
def test_a_new_certificate_is_not_due_for_a_good_part_of_its_life(days: int) -> None:
    authority = create_authority(NOW)
    certificate = issue_client(
        authority, new_tls_key().public_key(), role=Role.AGENT, name="a", now=NOW, life=timedelta(days=days)
    )
    left = (renewal_due(pem_of([certificate])) - NOW) / (days * DAY_S)
    assert 0.6 < left < 0.75


def test_a_statement_is_what_is_written_here() -> None:
    digest = hashlib.sha256(b"request").digest()
    parts = (b"ravan/v1/renewal", b"plant-7", b"ab12", b"c" * 56, digest)
    transcript = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    IDENTITY.public_key().verify(RENEWAL.sign(IDENTITY), transcript)


def test_a_statement_is_the_known_answer() -> None:
    known = json.loads(VECTORS.read_text())["renewal"]
    renewal = Renewal(
        site=SiteId(known["site"]),
        serial=known["serial"],
        tls_csr=bytes.fromhex(known["tls_csr"]),
        challenge=bytes.fromhex(known["challenge"]),
    )
    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(known["identity_seed"]))
    assert renewal.sign(key).hex() == known["proof"]


@pytest.mark.parametrize(
    "other",
    [
        Renewal(site=SiteId("plant-8"), serial="ab12", tls_csr=b"request", challenge=b"c" * 56),
        Renewal(site=SiteId("plant-7"), serial="ab13", tls_csr=b"request", challenge=b"c" * 56),
        Renewal(site=SiteId("plant-7"), serial="ab12", tls_csr=b"another", challenge=b"c" * 56),
        Renewal(site=SiteId("plant-7"), serial="ab12", tls_csr=b"request", challenge=b"d" * 56),
        Renewal(site=SiteId("plant-7"), serial="ab12", tls_csr=b"request"),
        # length prefixes: a name cannot borrow from the serial number
        Renewal(site=SiteId("plant-7a"), serial="b12", tls_csr=b"request", challenge=b"c" * 56),
    ],
)
def test_a_proof_holds_for_nothing_else(other: Renewal) -> None:
    with pytest.raises(IdentityError) as caught:
        other.verify(RENEWAL.sign(IDENTITY), raw_public(IDENTITY))
    assert caught.value.reason is ErrorReason.SIGNATURE_INVALID


@given(st.binary(max_size=80), st.binary(max_size=40))
def test_garbage_is_no_proof(proof: bytes, key: bytes) -> None:
    with pytest.raises(IdentityError):
        RENEWAL.verify(proof, key)
