"""The blob folder on its disk; `test_blob_contract.py` has what it shares with other blob stores."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest
from small_disk import DISK_BYTES, small_disk

from coordinator.store.blobs.local import LocalBlobs
from ravan.errors import ErrorReason, ResourceError
from ravan.ids import Digest

__all__ = ["small_disk"]

DATA = b"a model version"
DIGEST = Digest(hashlib.sha256(DATA).digest())


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "blobs")


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_blob_is_one_file_named_by_its_hash(blobs: LocalBlobs, tmp_path: Path) -> None:
    for _ in range(2):
        blobs.put(DATA)
    assert files_of(tmp_path / "blobs") == [tmp_path / "blobs" / DIGEST.hex()[:2] / DIGEST.hex()]


def test_a_file_from_another_disk_is_adopted_by_copying(blobs: LocalBlobs, small_disk: Path) -> None:
    file = small_disk / "upload"
    file.write_bytes(DATA)
    blobs.adopt(file, DIGEST)
    assert not file.exists()
    assert blobs.read(DIGEST) == DATA


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
