"""One daemon a data folder: a lock that the system lifts when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from coordinator.config import CREATE_COMMAND, DataFolder
from ravan.errors import ConfigError, ErrorReason, StateError


@contextmanager
def hold_data_folder(folder: DataFolder) -> Iterator[None]:
    """Hold the folder while the block runs.

    Raises ConfigError when it is no coordinator's data folder, StateError (WRONG_STATE) when another
    process holds it.
    """
    _require_keys(folder)
    descriptor = os.open(folder.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


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
        holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
        raise StateError(
            f"Another coordinator (process {holder}) works on the data folder {folder.root}.",
            reason=ErrorReason.WRONG_STATE,
            next_step="Stop that one first, or use another data folder.",
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
