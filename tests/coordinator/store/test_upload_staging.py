"""Staged uploads: resumable at the byte, checked when whole, kept until discarded."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from small_disk import DISK_BYTES, small_disk

from coordinator.store.staging import Staging, UploadKey, UploadStatus
from ravan.errors import ErrorReason, RavanError, ResourceError, TransferError
from ravan.ids import Digest, RunId, SiteId

__all__ = ["small_disk"]

DATA = bytes(range(256)) * 10
RUN = RunId(b"r" * 16)


def key_of(data: bytes = DATA, round_number: int = 3, site: str = "plant-a") -> UploadKey:
    digest = Digest(hashlib.sha256(data).digest())
    return UploadKey(run_id=RUN, round_number=round_number, site=SiteId(site), sha256=digest)


KEY = key_of()


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Staging(tmp_path / "staging")


def stage(staging: Staging, key: UploadKey, data: bytes = DATA) -> Path:
    stream = staging.open(key, len(data))
    stream.append(0, data)
    return stream.finish()


def reason_of(error: pytest.ExceptionInfo[RavanError]) -> ErrorReason:
    return error.value.reason


def test_an_upload_grows_at_its_end_and_becomes_whole(staging: Staging) -> None:
    assert staging.status(KEY) == UploadStatus(committed_bytes=0, complete=False)
    stream = staging.open(KEY, len(DATA))
    stream.append(0, DATA[:1000])
    assert staging.status(KEY) == UploadStatus(committed_bytes=1000, complete=False)
    assert staging.whole(KEY) is None
    stream.append(1000, DATA[1000:])
    path = stream.finish()
    staging.close(KEY, stream)
    assert path.read_bytes() == DATA
    assert staging.whole(KEY) == path
    assert staging.status(KEY) == UploadStatus(committed_bytes=len(DATA), complete=True)


def test_an_upload_goes_on_in_the_next_process(staging: Staging, tmp_path: Path) -> None:
    stream = staging.open(KEY, len(DATA))
    stream.append(0, DATA[:1000])
    staging.close(KEY, stream)
    later = Staging(tmp_path / "staging")
    assert later.status(KEY).committed_bytes == 1000
    stream = later.open(KEY, len(DATA))
    stream.append(1000, DATA[1000:])
    assert stream.finish().read_bytes() == DATA


@pytest.mark.parametrize("offset", [0, 999, 1001])
def test_only_the_next_byte_is_taken(staging: Staging, offset: int) -> None:
    stream = staging.open(KEY, len(DATA))
    stream.append(0, DATA[:1000])
    with pytest.raises(TransferError, match=f"number 1000, not {offset}") as caught:
        stream.append(offset, b"x")
    assert reason_of(caught) is ErrorReason.OFFSET_MISMATCH
    assert staging.status(KEY).committed_bytes == 1000
    stream.close()


def test_no_more_than_announced_is_written(staging: Staging) -> None:
    stream = staging.open(KEY, len(DATA))
    with pytest.raises(TransferError) as caught:
        stream.append(0, DATA + b"x")
    assert reason_of(caught) is ErrorReason.TOO_LARGE
    assert staging.status(KEY).committed_bytes == 0
    stream.close()


def test_missing_bytes_are_noticed_and_kept(staging: Staging) -> None:
    stream = staging.open(KEY, len(DATA))
    stream.append(0, DATA[:-1])
    with pytest.raises(TransferError) as caught:
        stream.finish()
    assert reason_of(caught) is ErrorReason.OFFSET_MISMATCH
    stream.append(len(DATA) - 1, DATA[-1:])
    assert stream.finish().read_bytes() == DATA


def test_wrong_content_is_removed(staging: Staging) -> None:
    stream = staging.open(KEY, len(DATA))
    stream.append(0, DATA[:-1] + b"x")
    with pytest.raises(TransferError) as caught:
        stream.finish()
    assert reason_of(caught) is ErrorReason.HASH_MISMATCH
    assert staging.status(KEY) == UploadStatus(committed_bytes=0, complete=False)


def test_a_newer_stream_cuts_the_older_off(staging: Staging) -> None:
    older = staging.open(KEY, len(DATA))
    older.append(0, DATA[:1000])
    newer = staging.open(KEY, len(DATA))
    with pytest.raises(TransferError, match="newer stream") as caught:
        older.append(1000, DATA[1000:])
    assert reason_of(caught) is ErrorReason.OFFSET_MISMATCH
    staging.close(KEY, older)
    newer.append(1000, DATA[1000:])
    assert newer.finish().read_bytes() == DATA


def test_what_is_longer_than_announced_begins_anew(staging: Staging) -> None:
    stream = staging.open(KEY, len(DATA) + 10)
    stream.append(0, DATA + b"0123456789")
    stream.close()
    assert stage(staging, KEY).read_bytes() == DATA


def test_uploads_of_sites_rounds_and_contents_do_not_meet(staging: Staging) -> None:
    keys = [KEY, key_of(site="plant-b"), key_of(round_number=4), key_of(DATA[1:])]
    paths = [stage(staging, key, DATA if key.sha256 == KEY.sha256 else DATA[1:]) for key in keys]
    assert len(set(paths)) == 4


def test_old_rounds_are_discarded_and_their_streams_end(staging: Staging) -> None:
    third, fourth = key_of(round_number=3), key_of(round_number=4)
    other_run = replace(third, run_id=RunId(b"s" * 16))
    for key in (fourth, other_run):
        stage(staging, key)
    stream = staging.open(third, len(DATA))
    stream.append(0, DATA[:10])
    staging.discard_round(RUN, before_round=4)
    with pytest.raises(TransferError, match="round has ended"):
        stream.append(10, DATA[10:])
    assert staging.status(third) == UploadStatus(committed_bytes=0, complete=False)
    assert staging.status(fourth).complete
    assert staging.status(other_run).complete


def test_a_site_cannot_fill_the_disk_with_beginnings(staging: Staging, tmp_path: Path) -> None:
    first = staging.open(KEY, len(DATA))
    first.append(0, DATA[:1000])
    other, neighbour = key_of(DATA[::-1]), key_of(site="plant-b")
    for key, size in ((neighbour, 20), (other, 10)):
        stream = staging.open(key, len(DATA))
        stream.append(0, DATA[:size])
        staging.close(key, stream)

    assert staging.status(KEY).committed_bytes == 0
    with pytest.raises(TransferError):
        first.append(1000, DATA[1000:])
    assert staging.status(other).committed_bytes == 10
    assert staging.status(neighbour).committed_bytes == 20
    assert len(list((tmp_path / "staging").rglob("*.part"))) == 2


def test_what_is_whole_stays_when_the_site_begins_another(staging: Staging) -> None:
    path, other = stage(staging, KEY), key_of(DATA[::-1])
    staging.close(other, staging.open(other, len(DATA)))
    assert staging.whole(KEY) == path


def test_a_run_is_discarded_whole(staging: Staging, tmp_path: Path) -> None:
    stage(staging, KEY)
    staging.discard_run(RUN)
    assert list((tmp_path / "staging").iterdir()) == []
    staging.discard_run(RUN)


def test_what_cannot_fit_is_refused_before_anything_is_written(small_disk: Path) -> None:
    staging = Staging(small_disk / "staging")
    with pytest.raises(ResourceError) as caught:
        staging.open(KEY, DISK_BYTES + 1)
    assert reason_of(caught) is ErrorReason.DISK_FULL
    assert staging.status(KEY).committed_bytes == 0


def test_a_disk_that_runs_full_keeps_what_was_committed(small_disk: Path) -> None:
    staging = Staging(small_disk / "staging")
    data = b"x" * (DISK_BYTES // 2)
    key = key_of(data)
    stream = staging.open(key, len(data))
    stream.append(0, data[:4096])
    hog = small_disk / "hog"
    hog.write_bytes(bytes(DISK_BYTES // 2 + 65536))
    with pytest.raises(ResourceError) as caught:
        stream.append(4096, data[4096:])
    assert reason_of(caught) is ErrorReason.DISK_FULL
    assert staging.status(key).committed_bytes == 4096
    hog.unlink()
    stream.append(4096, data[4096:])
    assert stream.finish().read_bytes() == data
