"""What every blob store does, tried on a folder and on a real server that speaks S3."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from object_server import ObjectServer, objects

from coordinator.store.blobs.base import OwnedBlobs
from coordinator.store.blobs.local import LocalBlobs
from coordinator.store.blobs.objects import ObjectBlobs
from ravan.errors import ErrorReason, TransferError
from ravan.ids import Digest

__all__ = ["objects"]

DATA = b"a model version"
DIGEST = Digest(hashlib.sha256(DATA).digest())
LARGE = bytes(range(256)) * (70 << 10)
"""17.5 MiB: more than two parts, and no whole number of them."""

Reopen = Callable[[], OwnedBlobs]


@pytest.fixture(params=["folder", "objects"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Reopen:
    """Return what opens the same store anew, as the next process would, perhaps on another machine."""
    if request.param == "folder":
        return lambda: LocalBlobs(tmp_path / "blobs")
    server: ObjectServer = request.getfixturevalue("objects")
    bucket, caches = server.new_bucket(prefix="plants/north"), iter(range(100))
    return lambda: ObjectBlobs(bucket, tmp_path / f"cache-{next(caches)}", cache_bytes=1 << 30)


@pytest.fixture
def blobs(reopen: Reopen) -> OwnedBlobs:
    return reopen()


def incoming_file(blobs: OwnedBlobs, content: bytes = DATA) -> Path:
    file = blobs.incoming / "upload"
    file.write_bytes(content)
    return file


def test_content_is_kept_under_its_hash(blobs: OwnedBlobs, reopen: Reopen) -> None:
    assert not blobs.exists(DIGEST)
    assert blobs.put(DATA) == DIGEST
    assert blobs.put(DATA) == DIGEST
    for store in (blobs, reopen()):
        assert store.exists(DIGEST)
        assert (store.size(DIGEST), store.read(DIGEST), store.path(DIGEST).read_bytes()) == (len(DATA), DATA, DATA)
        assert [(blob.digest, blob.size_bytes) for blob in store.stored()] == [(DIGEST, len(DATA))]


@pytest.mark.parametrize("content", [b"", LARGE])
def test_content_of_any_length_comes_back(blobs: OwnedBlobs, reopen: Reopen, content: bytes) -> None:
    digest = Digest(hashlib.sha256(content).digest())
    blobs.adopt(incoming_file(blobs, content), digest)
    later = reopen()
    assert later.size(digest) == len(content)
    assert later.read(digest) == content


@pytest.mark.parametrize("method", ["size", "read", "path"])
def test_absent_content_is_named(blobs: OwnedBlobs, method: str) -> None:
    with pytest.raises(TransferError, match=DIGEST.hex()) as caught:
        getattr(blobs, method)(DIGEST)
    assert caught.value.reason is ErrorReason.BLOB_MISSING


def test_a_file_is_adopted_by_moving(blobs: OwnedBlobs, reopen: Reopen) -> None:
    for _ in range(2):
        file = incoming_file(blobs)
        blobs.adopt(file, DIGEST)
        assert not file.exists()
    assert reopen().read(DIGEST) == DATA


def test_a_file_with_another_hash_is_not_adopted(blobs: OwnedBlobs, reopen: Reopen) -> None:
    with pytest.raises(TransferError) as caught:
        blobs.adopt(incoming_file(blobs, DATA[:-1]), DIGEST)
    assert caught.value.reason is ErrorReason.HASH_MISMATCH
    assert not blobs.exists(DIGEST)
    assert not reopen().exists(DIGEST)


def test_leftovers_go_when_the_daemon_starts(blobs: OwnedBlobs) -> None:
    blobs.put(DATA)
    incoming_file(blobs, b"half")
    blobs.discard_incoming()
    assert list(blobs.incoming.iterdir()) == []
    assert blobs.read(DIGEST) == DATA


def test_what_was_put_before_a_time_may_be_removed(blobs: OwnedBlobs, reopen: Reopen) -> None:
    blobs.put(DATA)
    other = blobs.put(b"another")
    assert not blobs.remove(DIGEST, before=time.time() - 60)
    assert blobs.exists(DIGEST)
    assert blobs.remove(DIGEST, before=time.time() + 60)
    assert not blobs.remove(DIGEST, before=time.time() + 60)
    for store in (blobs, reopen()):
        assert not store.exists(DIGEST)
        assert [blob.digest for blob in store.stored()] == [other]


@pytest.mark.parametrize("again", ["renew", "put", "adopt"])
def test_what_is_put_again_counts_as_put_just_now(blobs: OwnedBlobs, again: str) -> None:
    blobs.put(DATA)
    time.sleep(1.1)  # a bucket counts whole seconds
    between = time.time()
    time.sleep(1.1)
    match again:
        case "renew":
            assert blobs.renew(DIGEST)
        case "put":
            blobs.put(DATA)
        case "adopt":
            blobs.adopt(incoming_file(blobs), DIGEST)
    assert [blob.stored_at > between for blob in blobs.stored()] == [True]
    assert not blobs.remove(DIGEST, before=between)
    assert blobs.read(DIGEST) == DATA


def test_what_is_absent_cannot_be_renewed(blobs: OwnedBlobs) -> None:
    assert not blobs.renew(DIGEST)
