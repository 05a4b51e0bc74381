"""How much disk the coordinator takes, and how much there is."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from pathlib import Path

from coordinator.config import DataFolder


class DiskKind(StrEnum):
    """What the disk is taken for."""

    DATABASE = "database"
    BLOBS = "blobs"
    CACHE = "cache"
    STAGING = "staging"


class DiskUse:
    """Measure the data folder, and the database wherever it is."""

    def __init__(self, folder: DataFolder, database_bytes: Callable[[], Awaitable[int]]) -> None:
        self._root = folder.root
        self._database_bytes = database_bytes
        self._folders = {
            DiskKind.BLOBS: folder.blobs,
            DiskKind.CACHE: folder.cache,
            DiskKind.STAGING: folder.staging,
        }

    def free_bytes(self) -> int:
        """Return how much is free where the data folder lies."""
        return shutil.disk_usage(self._root).free

    async def measure(self) -> Mapping[DiskKind, int]:
        """Return the bytes by kind."""
        sizes = await asyncio.to_thread(lambda: {kind: folder_bytes(path) for kind, path in self._folders.items()})
        return {DiskKind.DATABASE: await self._database_bytes(), **sizes}


def folder_bytes(folder: Path) -> int:
    """Return the length of all files in a folder and below; 0 when there is none. Blocks on disk."""
    # What goes while it is being counted is not there.
    try:
        with os.scandir(folder) as entries:
            return sum(map(_entry_bytes, entries))
    except FileNotFoundError:
        return 0


def _entry_bytes(entry: os.DirEntry[str]) -> int:
    if entry.is_dir(follow_symlinks=False):
        return folder_bytes(Path(entry.path))
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0
