"""The PC's identity folder: complete or refused, its owner's only, one process at a time."""

from __future__ import annotations

import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from coordinator.enrolment.ca import create_authority, issue_client
from edge_agent.identity.keystore import Identity, is_enrolled, load_identity, make_keys, make_next_key, save_identity
from edge_agent.identity.lock import hold_identity
from ravan.errors import ErrorReason, IdentityError
from ravan.identity.certificates import Role
from ravan.identity.join import CoordinatorAddress
from ravan.identity.keyfiles import write_private
from ravan.identity.keys import private_pem, raw_public
from ravan.ids import SiteId

NOW = time.time()


def enrolled(folder: Path, *, site: str = "plant-7") -> Identity:
    keys, authority = make_keys(folder), create_authority(NOW)
    certificate = issue_client(authority, keys.tls.public_key(), role=Role.AGENT, name=site, now=NOW)
    identity = Identity(
        site=SiteId(site),
        address=CoordinatorAddress(host="hq.example", enrolment_port=8440, site_port=8443),
        tls_key=private_pem(keys.tls),
        certificate=certificate.public_bytes(Encoding.PEM),
        ca_certificate=authority.certificate.public_bytes(Encoding.PEM),
        identity_key=keys.identity,
        manifest_key=raw_public(ed25519.Ed25519PrivateKey.generate()),
    )
    save_identity(folder, identity)
    return identity


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    saved, loaded = enrolled(tmp_path / "id"), load_identity(tmp_path / "id")
    assert (loaded.site, loaded.address) == (saved.site, saved.address)
    assert (loaded.tls_key, loaded.certificate) == (saved.tls_key, saved.certificate)
    assert (loaded.ca_certificate, loaded.manifest_key) == (saved.ca_certificate, saved.manifest_key)
    assert raw_public(loaded.identity_key) == raw_public(saved.identity_key)
    assert loaded.certificate_expires_at == pytest.approx(NOW + 365 * 86_400, abs=1)


def test_all_files_are_their_owners_only(tmp_path: Path) -> None:
    enrolled(tmp_path / "id")
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "id").iterdir()}
    assert set(files) == {"tls.key", "tls.crt", "ca.crt", "identity.key", "manifest.pub", "site.json"}
    assert set(files.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "id").stat().st_mode) == 0o700


def test_keys_are_made_once(tmp_path: Path) -> None:
    first, second = make_keys(tmp_path), make_keys(tmp_path)
    assert private_pem(first.tls) == private_pem(second.tls)
    assert raw_public(first.identity) == raw_public(second.identity)
    assert not is_enrolled(tmp_path)


def test_an_empty_folder_asks_for_enrolment(tmp_path: Path) -> None:
    with pytest.raises(IdentityError) as caught:
        load_identity(tmp_path)
    assert caught.value.reason is ErrorReason.NOT_FOUND
    assert "ravan-agent enroll" in caught.value.next_step


@pytest.mark.parametrize("name", ["tls.key", "tls.crt", "identity.key", "ca.crt", "manifest.pub"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    enrolled(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(IdentityError) as caught:
        load_identity(tmp_path)
    assert caught.value.reason is ErrorReason.NOT_FOUND
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["tls.key", "tls.crt", "identity.key", "ca.crt", "manifest.pub", "site.json"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"{}"])
def test_a_damaged_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    enrolled(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(IdentityError) as caught:
        load_identity(tmp_path)
    assert caught.value.reason is ErrorReason.IDENTITY_MISMATCH


@pytest.mark.parametrize("name", ["tls.key", "tls.crt"])
def test_files_of_two_pcs_do_not_mix(tmp_path: Path, name: str) -> None:
    enrolled(tmp_path / "a")
    enrolled(tmp_path / "b", site="plant-8")
    (tmp_path / "a" / name).write_bytes((tmp_path / "b" / name).read_bytes())
    with pytest.raises(IdentityError) as caught:
        load_identity(tmp_path / "a")
    assert caught.value.reason is ErrorReason.IDENTITY_MISMATCH


def test_a_second_user_of_the_folder_is_refused(tmp_path: Path) -> None:
    with hold_identity(tmp_path / "id"):
        with pytest.raises(IdentityError) as caught, hold_identity(tmp_path / "id"):
            pytest.fail("two users at a time")
        with hold_identity(tmp_path / "other"):
            pass
    assert caught.value.reason is ErrorReason.IDENTITY_IN_USE
    assert str(tmp_path / "id") in str(caught.value)
    with hold_identity(tmp_path / "id"):
        pass


HOLDER = """
import sys
from pathlib import Path
from edge_agent.identity.lock import hold_identity
with hold_identity(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(IdentityError), hold_identity(tmp_path):
            pytest.fail("two processes at a time")
        holder.kill()
        holder.wait()
        with hold_identity(tmp_path):
            pass


@pytest.mark.parametrize("name", ["tls.key", "identity.key"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_may_read_is_refused_with_the_command(tmp_path: Path, name: str, mode: int) -> None:
    enrolled(tmp_path)
    (tmp_path / name).chmod(mode)
    with pytest.raises(IdentityError) as caught:
        load_identity(tmp_path)
    assert caught.value.reason is ErrorReason.PERMISSION_DENIED
    assert f"chmod 600 {tmp_path / name}" in caught.value.next_step
    (tmp_path / name).chmod(0o600)
    load_identity(tmp_path)


def test_a_renewal_that_was_cut_off_is_finished_by_whoever_opens_the_folder(tmp_path: Path) -> None:
    """The power goes after each step of writing; the folder is the old identity or the new one, never a mixture."""
    old = enrolled(tmp_path)
    key = make_next_key(tmp_path)
    authority = create_authority(NOW)
    certificate = issue_client(authority, key.public_key(), role=Role.AGENT, name="plant-7", now=NOW)
    new = certificate.public_bytes(Encoding.PEM)
    assert load_identity(tmp_path).certificate == old.certificate
    (tmp_path / "next.crt").write_bytes(new)
    states = [{path.name: path.read_bytes() for path in tmp_path.iterdir()}]
    states.append({**states[0], "tls.key": states[0]["next.key"]})
    del states[1]["next.key"]
    for state in states:
        for path in tmp_path.iterdir():
            path.unlink()
        for name, content in state.items():
            write_private(tmp_path / name, content)
        renewed = load_identity(tmp_path)
        assert (renewed.certificate, renewed.tls_key) == (new, private_pem(key))
        assert not (tmp_path / "next.key").exists()
        assert not (tmp_path / "next.crt").exists()
