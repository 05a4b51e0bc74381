"""Disk use: every byte of a folder once, files that go meanwhile, and a database wherever it is."""

from __future__ import annotations

from pathlib import Path

from coordinator.config import DataFolder
from coordinator.metrics.disk import DiskKind, DiskUse
from ravan.disk import folder_bytes


async def test_each_kind_counts_its_own_folder_with_all_that_is_below(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    for path, size in (("blobs/ab/x", 1000), ("blobs/incoming/y", 200), ("staging/run/1/a/z.part", 30), ("other", 4)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(bytes(size))

    async def database_bytes() -> int:
        return 5

    assert await DiskUse(folder, database_bytes).measure() == {
        DiskKind.DATABASE: 5,
        DiskKind.BLOBS: 1200,
        DiskKind.CACHE: 0,
        DiskKind.STAGING: 30,
    }


def test_links_count_nothing_of_what_they_lead_to(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(100_000))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "large")
    (tmp_path / "folder" / "gone").symlink_to(tmp_path / "nothing")
    assert folder_bytes(tmp_path / "folder") < 1000
