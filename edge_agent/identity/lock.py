"""Advisory locks between processes of one PC, released by the system on any exit.

One process per identity for as long as it runs, and one writer at a time for a small file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ravan.disk import room_in
from ravan.errors import ErrorReason, IdentityError
from ravan.identity.keyfiles import OWNER_ONLY, make_private_folder

LOCK_FILE: Final = "lock"

if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _wait_for_lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
else:
    import fcntl

    def _try_lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _wait_for_lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)


@contextmanager
def hold_identity(folder: Path) -> Iterator[None]:
    """Be the only process that uses this identity folder.

    Raises IdentityError (IDENTITY_IN_USE) at once when another one does.
    """
    make_private_folder(folder)
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, OWNER_ONLY)
    try:
        try:
            _try_lock(descriptor)
        except OSError as error:
            raise IdentityError(
                f"Another process on this PC uses the identity in {folder}.",
                reason=ErrorReason.IDENTITY_IN_USE,
                next_step="End the other `ravan-agent`, or enrol a site of its own into another folder.",
            ) from error
        yield
    finally:
        os.close(descriptor)


@contextmanager
def hold_briefly(path: Path) -> Iterator[None]:
    """Wait until no other process holds this lock file, and hold it; for reading and rewriting one small file.

    Raises ResourceError (DISK_FULL) when there is no room for the file.
    """
    with room_in(path.parent):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, OWNER_ONLY)
    try:
        _wait_for_lock(descriptor)
        yield
    finally:
        os.close(descriptor)
