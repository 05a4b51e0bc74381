"""How much disk the coordinator takes, and how much there is."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum

from coordinator.config import DataFolder
from ravan.disk import folder_bytes


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
