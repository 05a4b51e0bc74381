"""Key files are whole, and their owner's only."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from ravan.errors import ErrorReason, IdentityError, ResourceError
from ravan.identity.keyfiles import make_private_folder, read_private, write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_its_owners_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_private_folder(tmp_path / "keys")
        write_private(tmp_path / "keys" / "a.key", b"secret")
    finally:
        os.umask(before)
    assert mode(tmp_path / "keys" / "a.key") == 0o600
    assert mode(tmp_path / "keys") == 0o700
    assert read_private(tmp_path / "keys" / "a.key") == b"secret"


def test_replacing_a_readable_file_narrows_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    path.write_bytes(b"old")
    path.chmod(0o644)
    (tmp_path / ".a.key.partial").write_bytes(b"left by a crash")
    (tmp_path / ".a.key.partial").chmod(0o666)
    write_private(path, b"new")
    assert (path.read_bytes(), mode(path)) == (b"new", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.key"
    write_private(path, b"old")

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ResourceError) as caught:
        write_private(path, b"new")
    assert caught.value.reason is ErrorReason.DISK_FULL
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match=r"nothing\.key is missing") as caught:
        read_private(tmp_path / "nothing.key")
    assert caught.value.reason is ErrorReason.NOT_FOUND
