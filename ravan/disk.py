"""Files that are whole or absent: full disks told from other failures, folders synchronised after a rename, sizes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ravan.errors import ErrorReason, ResourceError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What writing fails with when the disk, a quota or a file-size limit is exhausted."""


def disk_full(folder: Path) -> ResourceError:
    """Return the error for a disk without room."""
    return ResourceError(
        f"The disk of {folder} is full.",
        reason=ErrorReason.DISK_FULL,
        next_step="Free space or enlarge the disk, then try again; nothing that was stored is lost.",
    )


@contextmanager
def room_in(folder: Path) -> Iterator[None]:
    """Turn a full disk into ResourceError (DISK_FULL); other failures pass unchanged."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(folder) from error
        raise


def move_durably(source: Path, target: Path) -> None:
    """Rename a synchronised file within one file system so that the new name survives a power cut."""
    os.replace(source, target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Write a folder's entries to disk; does nothing where folders cannot be opened (Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def folder_bytes(folder: Path) -> int:
    """Return the length of all files in a folder and below; 0 when there is none. Blocks on disk.

    A file with several names counts once.
    """
    shared: dict[tuple[int, int], int] = {}
    return _unshared_bytes(folder, shared) + sum(shared.values())


def _unshared_bytes(folder: Path, shared: dict[tuple[int, int], int]) -> int:
    # What goes while it is being counted is not there.
    try:
        with os.scandir(folder) as entries:
            return sum(_entry_bytes(entry, shared) for entry in entries)
    except FileNotFoundError:
        return 0


def _entry_bytes(entry: os.DirEntry[str], shared: dict[tuple[int, int], int]) -> int:
    if entry.is_dir(follow_symlinks=False):
        return _unshared_bytes(Path(entry.path), shared)
    try:
        found = os.lstat(entry.path)  # on Windows an entry's own stat tells of no other names
    except FileNotFoundError:
        return 0
    if found.st_nlink > 1:
        shared[found.st_dev, found.st_ino] = found.st_size
        return 0
    return found.st_size
