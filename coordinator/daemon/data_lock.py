"""One daemon a data folder: a lock that the system lifts when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from coordinator.config import CREATE_COMMAND, DataFolder
from ravan.disk import room_in
from ravan.errors import ConfigError, ErrorReason, StateError

_TRIES: Final = 20
_PAUSE_S: Final = 0.1


@contextmanager
def hold_data_folder(folder: DataFolder) -> Iterator[None]:
    """Hold the folder while the block runs.

    Raises ConfigError when it is no coordinator's data folder, StateError (WRONG_STATE) when another
    process holds it, ResourceError (DISK_FULL).
    """
    _require_keys(folder)
    descriptor = os.open(folder.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def share_data_folder(folder: DataFolder) -> Iterator[bool]:
    """Use the folder beside other daemons while the block runs, and tell whether there was none at the beginning.

    Raises what `hold_data_folder` does, StateError only while somebody needs the folder alone.
    """
    _require_keys(folder)
    descriptor = os.open(folder.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except BlockingIOError:
            alone = False
        _share(descriptor, folder)
        yield alone
    finally:
        os.close(descriptor)


def _share(descriptor: int, folder: DataFolder) -> None:
    for _ in range(_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            # Another daemon that starts just now may see whether it is alone.
            time.sleep(_PAUSE_S)
        else:
            return
    raise _held(descriptor, folder)


def workers_are_there(folder: DataFolder) -> bool:
    """Tell whether a worker uses the folder now."""
    try:
        with _workers_lock(folder, fcntl.LOCK_EX):
            return False
    except StateError:
        return True


@contextmanager
def hold_data_folder_alone(folder: DataFolder) -> Iterator[None]:
    """Hold the folder while neither a daemon nor a worker uses it; raises what `hold_data_folder` does."""
    with hold_data_folder(folder), _workers_lock(folder, fcntl.LOCK_EX):
        yield


@contextmanager
def join_data_folder(folder: DataFolder) -> Iterator[None]:
    """Use the folder beside others, as workers do.

    Raises ConfigError when it is no coordinator's data folder, StateError while somebody has it alone.
    """
    _require_keys(folder)
    with _workers_lock(folder, fcntl.LOCK_SH):
        yield


@contextmanager
def _workers_lock(folder: DataFolder, mode: int) -> Iterator[None]:
    descriptor = os.open(folder.workers_lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StateError(
                f"Workers use the data folder {folder.root}, or it is being restored.",
                reason=ErrorReason.WRONG_STATE,
                next_step="Stop every `ravan-coordinator worker` on it first, or wait for the restore.",
            ) from error
        yield
    finally:
        os.close(descriptor)


def _require_keys(folder: DataFolder) -> None:
    if not folder.pki.is_dir():
        raise ConfigError(
            f"{folder.root} is not a coordinator's data folder: it has no keys.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step=f"Correct `server.data_dir`, or make a new one with `{CREATE_COMMAND}`.",
        )


def _lock(descriptor: int, folder: DataFolder) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _held(descriptor, folder) from error
    with room_in(folder.root):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)


def _held(descriptor: int, folder: DataFolder) -> StateError:
    holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
    return StateError(
        f"Another coordinator (process {holder}) works on the data folder {folder.root}.",
        reason=ErrorReason.WRONG_STATE,
        next_step="Stop that one first, or use another data folder.",
    )
