"""Blobs in a bucket: copies that come and go, objects that were altered, a store that does not answer."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from object_server import ObjectServer, object_server, objects
from small_disk import DISK_BYTES, small_disk

from coordinator.store.blobs import objects as module
from coordinator.store.blobs.objects import Bucket, ObjectBlobs
from ravan.errors import ErrorReason, ResourceError, TransferError
from ravan.ids import Digest

__all__ = ["objects", "small_disk"]

ROOM = 10_000


@pytest.fixture
def bucket(objects: ObjectServer) -> Bucket:
    return objects.new_bucket()


def copies_in(cache: Path) -> set[bytes]:
    return {file.read_bytes()[:1] for file in cache.rglob("*") if file.is_file()}


def test_the_copies_asked_for_longest_ago_make_room_and_are_fetched_again(bucket: Bucket, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    blobs = ObjectBlobs(bucket, cache, cache_bytes=ROOM)
    digests = [blobs.put(letter * (ROOM // 2)) for letter in (b"a", b"b")]
    two_hours_ago = time.time() - 7200
    for age, digest in enumerate(digests):
        os.utime(blobs.path(digest), (two_hours_ago + age, two_hours_ago + age))
    blobs.put(b"c" * 10)
    assert copies_in(cache) == {b"b", b"c"}
    assert blobs.read(digests[0]) == b"a" * (ROOM // 2)
    assert copies_in(cache) == {b"a", b"c"}


def test_copies_that_were_just_asked_for_stay_however_little_room_there_is(bucket: Bucket, tmp_path: Path) -> None:
    blobs = ObjectBlobs(bucket, tmp_path / "cache", cache_bytes=1)
    paths = [blobs.path(blobs.put(letter * ROOM)) for letter in (b"a", b"b")]
    assert [path.read_bytes()[:1] for path in paths] == [b"a", b"b"]


def test_keys_are_those_of_a_local_folder(objects: ObjectServer, bucket: Bucket, tmp_path: Path) -> None:
    digest = ObjectBlobs(replace(bucket, prefix="hq"), tmp_path, cache_bytes=ROOM).put(b"state")
    assert objects.request("GET", f"{bucket.name}/hq/{digest.hex()[:2]}/{digest.hex()}") == b"state"


def test_an_object_that_is_not_what_was_put_is_refused(objects: ObjectServer, bucket: Bucket, tmp_path: Path) -> None:
    digest = ObjectBlobs(bucket, tmp_path / "a", cache_bytes=ROOM).put(b"state")
    objects.request("PUT", f"{bucket.name}/{digest.hex()[:2]}/{digest.hex()}", b"other")
    later = ObjectBlobs(bucket, tmp_path / "b", cache_bytes=ROOM)
    with pytest.raises(TransferError) as caught:
        later.read(digest)
    assert caught.value.reason is ErrorReason.HASH_MISMATCH
    assert copies_in(tmp_path / "b") == set()


def test_what_others_have_put_into_the_bucket_is_left_alone(
    objects: ObjectServer, bucket: Bucket, tmp_path: Path
) -> None:
    blobs = ObjectBlobs(bucket, tmp_path, cache_bytes=ROOM)
    digest = blobs.put(b"state")
    for key in ("readme.txt", "ab/abcd", f"zz/{digest.hex()}"):
        objects.request("PUT", f"{bucket.name}/{key}", b"not ours")
    assert [blob.digest for blob in blobs.stored()] == [digest]


def test_a_full_disk_of_copies_is_a_sentence_and_the_object_stays(bucket: Bucket, small_disk: Path) -> None:
    blobs = ObjectBlobs(bucket, small_disk, cache_bytes=ROOM)
    content = bytes(DISK_BYTES * 2)
    with pytest.raises(ResourceError) as caught:
        blobs.put(content)
    assert caught.value.reason is ErrorReason.DISK_FULL
    digest = Digest(hashlib.sha256(content).digest())
    with pytest.raises(ResourceError) as caught:
        blobs.read(digest)
    assert caught.value.reason is ErrorReason.DISK_FULL
    assert [file for file in small_disk.rglob("*") if file.is_file()] == []
    assert blobs.size(digest) == len(content)


def test_a_bucket_that_is_not_there_is_refused_at_the_start(bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="cannot be reached or refuses") as caught:
        ObjectBlobs(replace(bucket, name="absent"), tmp_path, cache_bytes=ROOM)
    assert caught.value.reason is ErrorReason.UNREACHABLE
    assert bucket.secret_access_key not in f"{caught.value} {bucket!r}"


def test_a_store_that_is_gone_is_a_sentence_and_copies_still_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", timedelta(seconds=1))
    with object_server() as server:
        blobs = ObjectBlobs(server.new_bucket(), tmp_path, cache_bytes=ROOM)
        digest = blobs.put(b"state")
    with pytest.raises(ResourceError) as caught:
        blobs.put(b"next state")
    assert caught.value.reason is ErrorReason.UNREACHABLE
    assert "[objects]" in caught.value.next_step
    assert blobs.read(digest) == b"state"
    assert not blobs._cache.exists(Digest(hashlib.sha256(b"next state").digest()))
