"""Making a new data folder: keys, database, folders, and the configuration file last of all."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from coordinator.config import FILE_NAME, DataFolder, write_sample
from coordinator.enrolment.ca import Authority
from coordinator.enrolment.pki import create_pki
from coordinator.store.sql.store import open_store
from ravan.errors import ErrorReason, StateError
from ravan.identity.keyfiles import make_private_folder, write_private


def found_coordinator(root: Path, hosts: Sequence[str], *, now: float, authority: Authority | None = None) -> Path:
    """Make a coordinator's data folder and return the path of its configuration file.

    Certificates come from a new authority, or from the one that is given.

    Raises StateError (ALREADY_EXISTS) when there is one, ConfigError for a bad host name,
    ResourceError (DISK_FULL).
    """
    config, folder = root / FILE_NAME, DataFolder(root)
    if config.exists() or folder.pki.exists():
        raise StateError(
            f"{root} already holds a coordinator.",
            reason=ErrorReason.ALREADY_EXISTS,
            next_step=f"Start it with `ravan-coordinator serve --config {config}`, or name another folder.",
        )
    try:
        make_private_folder(root)
        create_pki(folder.pki, hosts, now=now, authority=authority)
        for path in _folders(folder):
            make_private_folder(path)
        asyncio.run(open_store(folder.database).close())
        write_private(config, write_sample(hosts).encode())
    except BaseException:
        _withdraw(folder)
        raise
    return config


def _folders(folder: DataFolder) -> Sequence[Path]:
    return folder.blobs, folder.staging, folder.work


def _withdraw(folder: DataFolder) -> None:
    """Remove what was made, so that the next attempt finds a folder without keys again."""
    shutil.rmtree(folder.pki, ignore_errors=True)
    for path in _folders(folder):
        with suppress(OSError):  # what holds something is not ours
            path.rmdir()
    for path in folder.root.glob(f"{folder.database.name}*"):
        path.unlink()
