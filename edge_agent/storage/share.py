"""How much of the PC's disk the agent may take."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ravan.disk import folder_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskShare:
    """The folders that count, and their limit."""

    limit_bytes: int
    """Of all folders together; 0 leaves it to the disk."""
    folders: tuple[Path, ...]
    """The first one is where models lie."""

    def used_bytes(self) -> int:
        """Return what the folders hold. Blocks on disk."""
        return sum(map(folder_bytes, self.folders))

    def over_by(self, more_bytes: int) -> int:
        """Return by how much the limit would be exceeded with this much more, at least 0. Blocks on disk."""
        return max(0, self.used_bytes() + more_bytes - self.limit_bytes) if self.limit_bytes else 0

    def free_bytes(self) -> int:
        """Return what may still be written where models lie, by the limit and by the disk. Blocks on disk."""
        free = free_bytes(self.folders[0])
        return min(free, max(0, self.limit_bytes - self.used_bytes())) if self.limit_bytes else free


def free_bytes(folder: Path) -> int:
    """Return the free space where `folder` is or will be."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free
