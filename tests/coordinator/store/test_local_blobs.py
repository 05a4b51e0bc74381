"""The blob folder: whole or absent, named by content."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest
from small_disk import DISK_BYTES, small_disk

from coordinator.store.blobs.local import LocalBlobs
from ravan.errors import ErrorReason, ResourceError, TransferError
from ravan.ids import Digest

__all__ = ["small_disk"]

DATA = b"a model version"
DIGEST = Digest(hashlib.sha256(DATA).digest())


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "blobs")


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_content_is_kept_under_its_hash(blobs: LocalBlobs, tmp_path: Path) -> None:
    assert not blobs.exists(DIGEST)
    assert blobs.put(DATA) == DIGEST
    assert blobs.put(DATA) == DIGEST
    assert blobs.exists(DIGEST)
    assert (blobs.size(DIGEST), blobs.read(DIGEST), blobs.path(DIGEST).read_bytes()) == (len(DATA), DATA, DATA)
    assert files_of(tmp_path / "blobs") == [tmp_path / "blobs" / DIGEST.hex()[:2] / DIGEST.hex()]


def test_content_is_there_for_the_next_process(blobs: LocalBlobs, tmp_path: Path) -> None:
    blobs.put(DATA)
    assert LocalBlobs(tmp_path / "blobs").read(DIGEST) == DATA


@pytest.mark.parametrize("ask", [LocalBlobs.size, LocalBlobs.read, LocalBlobs.path])
def test_absent_content_is_named(blobs: LocalBlobs, ask: object) -> None:
    with pytest.raises(TransferError, match=DIGEST.hex()) as caught:
        ask(blobs, DIGEST)  # type: ignore[operator]
    assert caught.value.reason is ErrorReason.BLOB_MISSING


def test_a_file_is_adopted_by_moving(blobs: LocalBlobs) -> None:
    for _ in range(2):
        file = blobs.incoming / "upload"
        file.write_bytes(DATA)
        blobs.adopt(file, DIGEST)
        assert not file.exists()
        assert blobs.read(DIGEST) == DATA


def test_a_file_from_another_disk_is_adopted_by_copying(blobs: LocalBlobs, small_disk: Path) -> None:
    file = small_disk / "upload"
    file.write_bytes(DATA)
    blobs.adopt(file, DIGEST)
    assert not file.exists()
    assert blobs.read(DIGEST) == DATA


def test_a_file_with_another_hash_is_not_adopted(blobs: LocalBlobs) -> None:
    file = blobs.incoming / "upload"
    file.write_bytes(DATA[:-1])
    with pytest.raises(TransferError) as caught:
        blobs.adopt(file, DIGEST)
    assert caught.value.reason is ErrorReason.HASH_MISMATCH
    assert not blobs.exists(DIGEST)


def test_a_full_disk_leaves_nothing_behind(small_disk: Path) -> None:
    blobs = LocalBlobs(small_disk / "blobs")
    kept = blobs.put(bytes(DISK_BYTES // 2))
    with pytest.raises(ResourceError, match="is full") as caught:
        blobs.put(b"x" * DISK_BYTES)
    assert caught.value.reason is ErrorReason.DISK_FULL
    assert files_of(small_disk) == [blobs.path(kept)]


def test_a_disk_that_is_full_only_when_synchronised_leaves_nothing_behind(
    blobs: LocalBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ResourceError) as caught:
        blobs.put(DATA)
    assert caught.value.reason is ErrorReason.DISK_FULL
    assert files_of(tmp_path) == []
    assert not blobs.exists(DIGEST)


def test_leftovers_go_when_the_daemon_starts(blobs: LocalBlobs, tmp_path: Path) -> None:
    blobs.put(DATA)
    (blobs.incoming / "unfinished").write_bytes(b"half")
    blobs.discard_incoming()
    assert files_of(tmp_path) == [blobs.path(DIGEST)]
