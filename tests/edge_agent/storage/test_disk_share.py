"""What the agent holds on the disk and may still write."""

from __future__ import annotations

import os
from pathlib import Path

from edge_agent.storage.share import DiskShare, free_bytes


def test_free_space_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    # other programs write meanwhile; a wrong file system would differ by far more
    assert abs(free_bytes(tmp_path / "not" / "yet") - free_bytes(tmp_path)) < 1 << 30


def test_both_folders_count_and_a_file_with_two_names_counts_once(tmp_path: Path) -> None:
    cache, state = tmp_path / "cache", tmp_path / "state"
    for path, size in (
        (cache / "blobs" / "a", 1000),
        (cache / "models" / "m" / "own", 10),
        (state / "rounds" / "x", 200),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
    os.link(cache / "blobs" / "a", cache / "models" / "m" / "weights")
    share = DiskShare(limit_bytes=2000, folders=(cache, state))
    assert share.used_bytes() == 1210
    assert (share.over_by(790), share.over_by(791)) == (0, 1)
    assert share.free_bytes() == 790


def test_without_a_limit_the_disk_alone_counts(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(5000))
    share = DiskShare(limit_bytes=0, folders=(tmp_path,))
    assert share.over_by(1 << 60) == 0
    assert abs(share.free_bytes() - free_bytes(tmp_path)) < 1 << 30


def test_what_is_over_the_limit_already_leaves_nothing_to_write(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(5000))
    assert DiskShare(limit_bytes=4000, folders=(tmp_path,)).free_bytes() == 0
