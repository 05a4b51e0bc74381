"""Files that hold identities: written whole or not at all, readable by their owner only."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from ravan.disk import move_durably, room_in
from ravan.errors import ErrorReason, IdentityError

OWNER_ONLY = 0o600
OWNER_ONLY_FOLDER = 0o700


def make_private_folder(folder: Path) -> None:
    """Create the folder and its parents; a folder that is new is its owner's only."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=OWNER_ONLY_FOLDER, exist_ok=True)


def write_private(path: Path, content: bytes) -> None:
    """Replace `path` atomically by a file of mode 0600.

    Raises ResourceError (DISK_FULL) when the disk is full; the old file then stays as it was.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with room_in(path.parent):
            partial.unlink(missing_ok=True)  # a leftover may carry wider permissions
            _write_synced(partial, content)
            move_durably(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_private(path: Path) -> bytes:
    """Return the file's content; raise IdentityError (NOT_FOUND) with the path when there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise IdentityError(
            f"The file {path} is missing.",
            reason=ErrorReason.NOT_FOUND,
            next_step="Check that the right folder is configured, or restore it from a backup.",
        ) from error
    except PermissionError as error:
        raise IdentityError(
            f"The file {path} may not be read by this user.",
            reason=ErrorReason.PERMISSION_DENIED,
            next_step="Run the command as the user who owns the file.",
        ) from error


def read_secret(path: Path) -> bytes:
    """Return the content of a private key's file.

    Raises IdentityError: as `read_private`, and PERMISSION_DENIED when others than its owner may read or change it.
    """
    content = read_private(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    # Windows keeps access lists instead, of which these bits say nothing
    if os.name == "posix" and mode & ~OWNER_ONLY:
        raise IdentityError(
            f"The key {path} may be used by others than its owner (mode {mode:04o}).",
            reason=ErrorReason.PERMISSION_DENIED,
            next_step=f"Run `chmod 600 {shlex.quote(str(path))}`. If others may have read it, replace the key.",
        )
    return content


def _write_synced(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
