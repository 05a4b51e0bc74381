"""Enrolment end to end: join string, agent's folder, TLS, register."""

from __future__ import annotations

import json
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from identity_ports import Headquarters, enrolment_port

from coordinator.enrolment.ca import create_authority
from coordinator.enrolment.registry import Application
from edge_agent.identity.enrol import enrol
from edge_agent.identity.keystore import load_identity
from edge_agent.identity.lock import hold_identity
from ravan.errors import ErrorReason, RavanError
from ravan.identity.certificates import Caller, Role, read_caller
from ravan.identity.join import Invitation, decode_invitation, encode_invitation
from ravan.identity.keys import certificate_request, new_tls_key, raw_public
from ravan.identity.proof import sign_proof
from ravan.ids import SiteId

NOW = time.time()


async def refused(join_string: str, folder: Path) -> RavanError:
    with pytest.raises(RavanError) as caught:
        await enrol(join_string, folder, timeout_s=20)
    return caught.value


async def test_a_pc_enrols_and_finds_its_identity_again(tmp_path: Path) -> None:
    async with enrolment_port(tmp_path / "hq", now=NOW) as hq:
        join_string, expires_at = await hq.registry.create_token("plant-7", life_s=600)
        identity = await enrol(join_string, tmp_path / "pc")
        site = (await hq.sites())["plant-7"]
    assert expires_at == NOW + 600
    assert (identity.site, identity.address) == ("plant-7", decode_invitation(join_string).address)
    assert identity.certificate == site.certificate_pem == load_identity(tmp_path / "pc").certificate
    assert raw_public(identity.identity_key) == site.identity_key
    assert identity.manifest_key == hq.pki.manifest_public
    assert read_caller(identity.certificate) == Caller(role=Role.AGENT, name="plant-7", serial=site.certificate_serial)
    assert not hq.registry.is_revoked(read_caller(identity.certificate))
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "pc").iterdir()}
    assert modes == {0o600}
    assert "PRIVATE" not in repr(identity)


async def test_a_used_token_is_refused_to_other_keys(tmp_path: Path) -> None:
    async with enrolment_port(tmp_path / "hq", now=NOW) as hq:
        join_string, _ = await hq.registry.create_token("plant-7")
        first = await enrol(join_string, tmp_path / "pc")
        error = await refused(join_string, tmp_path / "thief")
        assert not hq.registry.is_revoked(read_caller(first.certificate))
    assert error.reason is ErrorReason.TOKEN_USED
    assert "ravan-coordinator token create --site plant-7" in error.next_step
    assert not (tmp_path / "thief" / "site.json").exists()


async def test_an_expired_token_is_refused_with_its_own_sentence(tmp_path: Path) -> None:
    async with enrolment_port(tmp_path / "hq", now=NOW) as hq:
        join_string, _ = await hq.registry.create_token("plant-7", life_s=60)
        hq.clock.advance(60)
        error = await refused(join_string, tmp_path / "pc")
    assert error.reason is ErrorReason.TOKEN_EXPIRED
    assert "ravan-coordinator token create --site plant-7" in error.next_step


async def test_a_token_that_was_never_issued_is_refused(tmp_path: Path) -> None:
    async with enrolment_port(tmp_path / "hq", now=NOW) as hq:
        join_string, _ = await hq.registry.create_token("plant-7")
        invented = replace(decode_invitation(join_string), token_secret="invented")  # noqa: S106
        error = await refused(encode_invitation(invented), tmp_path / "pc")
        assert await hq.sites() == {}
    assert error.reason is ErrorReason.TOKEN_UNKNOWN


async def test_a_join_string_of_another_coordinator_ends_in_the_handshake(tmp_path: Path) -> None:
    async with enrolment_port(tmp_path / "hq", now=NOW) as hq:
        join_string, _ = await hq.registry.create_token("plant-7")
        other = create_authority(NOW).certificate.public_bytes(Encoding.DER)
        foreign = replace(decode_invitation(join_string), ca_certificate=other)
        error = await refused(encode_invitation(foreign), tmp_path / "pc")
        assert (await hq.token(foreign.token_id)).used_at is None
    assert error.reason is ErrorReason.IDENTITY_MISMATCH


async def test_a_coordinator_with_another_manifest_key_is_not_believed(tmp_path: Path) -> None:
    async with enrolment_port(tmp_path / "hq", now=NOW) as hq:
        join_string, _ = await hq.registry.create_token("plant-7")
        changed = replace(decode_invitation(join_string), manifest_key=bytes(32))
        error = await refused(encode_invitation(changed), tmp_path / "pc")
    assert error.reason is ErrorReason.IDENTITY_MISMATCH
    assert not (tmp_path / "pc" / "site.json").exists()


async def test_a_failed_attempt_keeps_its_keys_and_may_be_repeated(tmp_path: Path) -> None:
    async with enrolment_port(tmp_path / "hq", now=NOW) as hq:
        join_string, _ = await hq.registry.create_token("plant-7")
        invitation = decode_invitation(join_string)
        nowhere = replace(invitation, address=replace(invitation.address, enrolment_port=1))
        assert (await refused(encode_invitation(nowhere), tmp_path / "pc")).reason is ErrorReason.UNREACHABLE
        keys = [(tmp_path / "pc" / name).read_bytes() for name in ("tls.key", "identity.key")]
        identity = await enrol(join_string, tmp_path / "pc")
        # the answer was lost on the way: the folder forgets it and asks again
        (tmp_path / "pc" / "site.json").unlink()
        (tmp_path / "pc" / "tls.crt").unlink()
        again = await enrol(join_string, tmp_path / "pc")
    assert [(tmp_path / "pc" / name).read_bytes() for name in ("tls.key", "identity.key")] == keys
    assert again.certificate == identity.certificate


async def test_an_enrolled_folder_is_never_overwritten(tmp_path: Path) -> None:
    async with enrolment_port(tmp_path / "hq", now=NOW) as hq:
        first, _ = await hq.registry.create_token("plant-7")
        second, _ = await hq.registry.create_token("plant-8")
        await enrol(first, tmp_path / "pc")
        error = await refused(second, tmp_path / "pc")
    assert error.reason is ErrorReason.ALREADY_EXISTS
    assert "plant-7" in str(error)
    assert json.loads((tmp_path / "pc" / "site.json").read_bytes())["site"] == "plant-7"


async def test_a_folder_in_use_cannot_be_enrolled(tmp_path: Path) -> None:
    async with enrolment_port(tmp_path / "hq", now=NOW) as hq:
        join_string, _ = await hq.registry.create_token("plant-7")
        with hold_identity(tmp_path / "pc"):
            error = await refused(join_string, tmp_path / "pc")
    assert error.reason is ErrorReason.IDENTITY_IN_USE


async def test_a_new_token_replaces_the_pc_and_its_certificate(tmp_path: Path) -> None:
    async with enrolment_port(tmp_path / "hq", now=NOW) as hq:
        old_token, _ = await hq.registry.create_token("plant-7")
        old = read_caller((await enrol(old_token, tmp_path / "old")).certificate)
        new_token, _ = await hq.registry.create_token("plant-7")
        new = read_caller((await enrol(new_token, tmp_path / "new")).certificate)
        assert (hq.registry.is_revoked(old), hq.registry.is_revoked(new)) == (True, False)
        # the old PC cannot come back with the old token
        (tmp_path / "old" / "site.json").unlink()
        assert (await refused(old_token, tmp_path / "old")).reason is ErrorReason.TOKEN_USED


async def test_revocation_holds_over_a_restart_and_over_the_old_token(tmp_path: Path) -> None:
    async with enrolment_port(tmp_path / "hq", now=NOW) as hq:
        join_string, _ = await hq.registry.create_token("plant-7")
        caller = read_caller((await enrol(join_string, tmp_path / "pc")).certificate)
        await hq.registry.load()
        assert not hq.registry.is_revoked(caller)
        await hq.registry.revoke(SiteId("plant-7"))
        assert hq.registry.is_revoked(caller)
        await hq.registry.load()
        assert hq.registry.is_revoked(caller)
        (tmp_path / "pc" / "site.json").unlink()
        assert (await refused(join_string, tmp_path / "pc")).reason is ErrorReason.IDENTITY_REVOKED
        with pytest.raises(RavanError, match="no site plant-9"):
            await hq.registry.revoke(SiteId("plant-9"))


async def invite(hq: Headquarters, site: str) -> Invitation:
    join_string, _ = await hq.registry.create_token(site)
    return decode_invitation(join_string)


async def apply(hq: Headquarters, invitation: Invitation, **changes: bytes) -> None:
    """Enrol without a network, with one part of the application replaced."""
    csr = certificate_request(new_tls_key())
    application = Application(
        token_id=invitation.token_id,
        token_secret=invitation.token_secret,
        tls_csr=csr,
        identity_key=raw_public(hq.pki.manifest_key),
        identity_proof=sign_proof(hq.pki.manifest_key, token_id=invitation.token_id, tls_csr=csr),
    )
    await hq.registry.enrol(replace(application, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tls_csr": b"no request"}, ErrorReason.MALFORMED),
        ({"identity_key": bytes(32)}, ErrorReason.SIGNATURE_INVALID),
        ({"identity_key": b"short"}, ErrorReason.SIGNATURE_INVALID),
        ({"identity_proof": bytes(64)}, ErrorReason.SIGNATURE_INVALID),
    ],
)
async def test_a_faulty_application_uses_no_token(
    tmp_path: Path, changes: dict[str, bytes], reason: ErrorReason
) -> None:
    async with enrolment_port(tmp_path / "hq", now=NOW) as hq:
        invitation = await invite(hq, "plant-7")
        with pytest.raises(RavanError) as caught:
            await apply(hq, invitation, **changes)
        assert (await hq.token(invitation.token_id)).used_at is None
    assert caught.value.reason is reason


async def test_one_pc_cannot_be_two_sites(tmp_path: Path) -> None:
    async with enrolment_port(tmp_path / "hq", now=NOW) as hq:
        await apply(hq, await invite(hq, "plant-7"))
        second = await invite(hq, "plant-8")
        with pytest.raises(RavanError, match="belong to the site plant-7") as caught:
            await apply(hq, second)
        assert set(await hq.sites()) == {"plant-7"}
    assert caught.value.reason is ErrorReason.IDENTITY_MISMATCH
