"""The coordinator's key folder: made whole or not at all, its owner's only, consistent when loaded."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from coordinator.enrolment.pki import create_pki, load_operator, load_pki
from ravan.errors import ConfigError, ErrorReason, IdentityError, StateError
from ravan.identity.certificates import Role, read_caller

NOW = 1_800_000_000.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_pki(tmp_path / "pki", ["hq.example"], now=NOW)
    return tmp_path / "pki"


def test_every_file_is_its_owners_only(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    leaves = {"server.key", "server.crt", "admin.key", "admin.crt", "operators.json"}
    assert names == {"ca.key", "ca.crt", "manifest.key"} | leaves
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_loading_brings_back_the_same_keys(folder: Path) -> None:
    first, second = load_pki(folder), load_pki(folder)
    assert first.manifest_public == second.manifest_public
    assert first.ca_pem == (folder / "ca.crt").read_bytes()
    assert first.server_expires_at == NOW + 730 * 86_400


def test_the_admin_certificate_is_an_operators(folder: Path) -> None:
    caller = read_caller(load_operator(folder).certificate)
    assert (caller.role, caller.name) == (Role.OPERATOR, "admin")


def test_existing_keys_are_never_replaced(folder: Path) -> None:
    before = (folder / "ca.key").read_bytes()
    with pytest.raises(StateError) as caught:
        create_pki(folder, ["hq.example"], now=NOW)
    assert caught.value.reason is ErrorReason.ALREADY_EXISTS
    assert (folder / "ca.key").read_bytes() == before


def test_a_failed_attempt_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        create_pki(tmp_path / "pki", ["not a host"], now=NOW)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["ca.key", "ca.crt", "server.key", "server.crt"])
def test_files_of_two_coordinators_do_not_mix(folder: Path, tmp_path: Path, name: str) -> None:
    create_pki(tmp_path / "other", ["hq.example"], now=NOW)
    shutil.copy(tmp_path / "other" / name, folder / name)
    with pytest.raises(IdentityError) as caught:
        load_pki(folder)
    assert caught.value.reason is ErrorReason.IDENTITY_MISMATCH


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "manifest.key").unlink()
    with pytest.raises(IdentityError, match=r"manifest\.key is missing"):
        load_pki(folder)


def test_secrets_stay_out_of_representations(folder: Path) -> None:
    text = repr(load_pki(folder)) + repr(load_operator(folder))
    assert "PRIVATE" not in text
