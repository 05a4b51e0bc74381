"""Room is refused while there is still some, by a count that never lags behind what was written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.store.blobs.local import LocalBlobs
from coordinator.store.quota import MEASURE_EVERY_S, DiskQuota, Tally
from coordinator.store.staging import Staging, UploadKey
from ravan.errors import ErrorReason, ResourceError
from ravan.ids import Digest, RunId, SiteId

MB = 1 << 20
KEY = UploadKey(run_id=RunId(bytes(16)), round_number=1, site=SiteId("site-0"), sha256=Digest(bytes(32)))


@given(st.integers(1, 1000), st.lists(st.integers(0, 300), max_size=50))
def test_what_is_let_in_never_exceeds_the_quota_and_what_fits_is_let_in(most: int, sizes: list[int]) -> None:
    tally, used = Tally(most), 0
    for size in sizes:
        fits = used + size <= most
        assert tally.fits(size) is tally.add(size) is fits
        used += size * fits
        assert tally.used_bytes == used <= most


def test_a_tally_without_a_limit_lets_everything_in_and_is_never_measured() -> None:
    tally = Tally(0)
    assert tally.add(1 << 60)
    assert not tally.is_stale(1e9)


def refused(error: pytest.ExceptionInfo[ResourceError]) -> str:
    assert error.value.reason is ErrorReason.DISK_FULL
    assert error.value.next_step
    return str(error.value)


def test_blobs_and_uploads_share_one_quota(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "old").write_bytes(bytes(MB))
    quota = DiskQuota(tmp_path, (tmp_path / "blobs", tmp_path / "staging"), most_bytes=4 * MB)
    blobs, staging = LocalBlobs(tmp_path / "blobs", quota), Staging(tmp_path / "staging", quota)
    blobs.put(b"a" * MB)
    stream = staging.open(KEY, 2 * MB)
    stream.append(0, bytes(MB))
    with pytest.raises(ResourceError, match="take 3 MB of 4 MB") as caught:
        blobs.put(b"b" * (MB + 1))
    assert "limits.data_mb" in caught.value.next_step
    stream.append(MB, bytes(MB))
    with pytest.raises(ResourceError) as caught:
        blobs.put(b"c")
    refused(caught)
    # What is here already takes no room.
    blobs.put(b"a" * MB)
    staging.close(KEY, stream)
    assert staging.status(KEY).committed_bytes == 2 * MB


def test_room_that_was_made_counts_once_the_folders_are_measured_again(tmp_path: Path) -> None:
    now = [0.0]
    quota = DiskQuota(tmp_path, (tmp_path,), most_bytes=10, monotonic=lambda: now[0])
    (tmp_path / "file").write_bytes(bytes(10))
    with pytest.raises(ResourceError):
        quota.claim(1)
    (tmp_path / "file").unlink()
    now[0] += MEASURE_EVERY_S
    quota.claim(10)


def test_an_upload_that_would_not_fit_is_refused_before_its_first_byte(tmp_path: Path) -> None:
    quota = DiskQuota(tmp_path, (tmp_path / "staging",), most_bytes=100)
    staging = Staging(tmp_path / "staging", quota)
    with pytest.raises(ResourceError) as caught:
        staging.open(KEY, 101)
    refused(caught)
    assert staging.status(KEY).committed_bytes == 0


def test_many_who_were_let_in_together_do_not_pass_the_quota_together(tmp_path: Path) -> None:
    quota = DiskQuota(tmp_path, (tmp_path / "staging",), most_bytes=100)
    staging = Staging(tmp_path / "staging", quota)
    keys = [UploadKey(run_id=KEY.run_id, round_number=1, site=SiteId(f"s{i}"), sha256=KEY.sha256) for i in range(3)]
    streams = [staging.open(key, 60) for key in keys]
    streams[0].append(0, bytes(60))
    with pytest.raises(ResourceError):
        streams[1].append(0, bytes(60))
    streams[2].append(0, bytes(40))
    for key, stream in zip(keys, streams, strict=True):
        staging.close(key, stream)
    assert [staging.status(key).committed_bytes for key in keys] == [60, 0, 40]


def test_the_reserve_of_the_disk_stays_free(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    blobs = LocalBlobs(tmp_path / "blobs", DiskQuota(tmp_path, reserve_bytes=2 * free))
    with pytest.raises(ResourceError, match="stay free") as caught:
        blobs.put(b"a")
    refused(caught)
    assert [each for each in (tmp_path / "blobs").rglob("*") if each.is_file()] == []


def test_a_site_holds_no_more_than_its_header_announces(tmp_path: Path) -> None:
    """A site that begins upload after upload of one round, each with another hash, keeps the last one alone."""
    staging = Staging(tmp_path / "staging")
    for number in range(20):
        sha256 = Digest(bytes([number]) * 32)
        key = UploadKey(run_id=KEY.run_id, round_number=1, site=KEY.site, sha256=sha256)
        stream = staging.open(key, 1000)
        stream.append(0, bytes(999))
        with pytest.raises(Exception, match="More than the announced 1000 bytes"):
            stream.append(999, bytes(2))
    staging.close(key, stream)
    files = [each for each in (tmp_path / "staging").rglob("*") if each.is_file()]
    assert [each.stat().st_size for each in files] == [999]
