"""A backup: one uncompressed tar file with a snapshot of the records and the blobs that they refer to.

    backup.json    what it is, when it was taken, the hash of the snapshot
    ravan.db       the snapshot, always an SQLite file
    blobs/HASH     each blob, named by its SHA-256

Keys and configuration are not in it: they are copied apart from it, and kept elsewhere.
"""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from pydantic import BaseModel, Field, ValidationError

from coordinator.store.base import Transaction
from coordinator.store.blobs.base import BlobStore, OwnedBlobs
from coordinator.store.references import job_blobs, model_blobs, past_blobs
from coordinator.store.sql.database import Place
from coordinator.store.sql.snapshots import read_records, take_snapshot
from ravan.codec.chunks import content_digest
from ravan.configuration import STRICT
from ravan.disk import move_durably, room_in
from ravan.errors import ErrorReason, StateError, TransferError
from ravan.ids import Digest
from ravan.version import VERSION

FORMAT: Final = 1

_FACTS, _RECORDS, _BLOBS = "backup.json", "ravan.db", "blobs/"
_PIECE: Final = 1 << 20


class BackupFacts(BaseModel):
    """What `backup.json` says."""

    model_config = STRICT

    format: int = FORMAT
    release: str = VERSION
    taken_at: float
    """Seconds since the Unix epoch."""
    manifest_key: str = Field(pattern="^[0-9a-f]{64}$")
    """Public key of the coordinator whose it is."""
    records_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    blobs: bool
    """Whether it has the blobs as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Blobs for a backup."""

    needed: frozenset[Digest]
    """Without one of these the backup fails."""
    past: frozenset[Digest]
    """What is cleaned away meanwhile is left out."""


def write_backup(
    path: Path, place: Place, blobs: BlobStore | None, *, manifest_key: bytes, taken_at: float
) -> BackupFacts:
    """Write a backup beside a daemon that may be running; None for blobs leaves them out.

    Raises StateError (ALREADY_EXISTS, WRONG_STATE), ResourceError (DISK_FULL, UNREACHABLE) or TransferError
    (BLOB_MISSING); no file is left then.
    """
    if path.exists():
        raise StateError(
            f"{path} exists already.", reason=ErrorReason.ALREADY_EXISTS, next_step="Name a file that does not."
        )
    with tempfile.TemporaryDirectory(prefix=".backup-", dir=path.absolute().parent) as scratch, room_in(path.parent):
        records, draft = Path(scratch) / _RECORDS, Path(scratch) / path.name
        take_snapshot(place, records)
        facts = BackupFacts(
            taken_at=taken_at,
            manifest_key=manifest_key.hex(),
            records_sha256=_digest_of(records).hex(),
            blobs=blobs is not None,
        )
        with open(draft, "xb", opener=_private) as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
                _add(archive, _FACTS, io.BytesIO(facts.model_dump_json(indent=2).encode()))
                with records.open("rb") as content:
                    _add(archive, _RECORDS, content)
                if blobs is not None:
                    _add_blobs(archive, blobs, read_records(records, wanted_blobs))
            file.flush()
            os.fsync(file.fileno())
        move_durably(draft, path)
    return facts


def wanted_blobs(transaction: Transaction) -> Wanted:
    """Return every blob that the records refer to."""
    jobs = transaction.list_jobs()
    needed = model_blobs(transaction.list_models()).union(*map(job_blobs, jobs))
    past = frozenset[Digest]().union(*(past_blobs(transaction.list_rounds(job.job_id)) for job in jobs))
    return Wanted(needed=needed, past=past - needed)


class Backup:
    """A backup that is open for reading; use `open_backup`."""

    def __init__(self, path: Path, archive: tarfile.TarFile) -> None:
        """Read what it says of itself; raise TransferError (MALFORMED) when it is no backup."""
        self._path = path
        self._archive = archive
        try:
            self.facts = BackupFacts.model_validate_json(self._content(_FACTS).read())
        except ValidationError as error:
            raise _no_backup(path) from error

    def extract_records(self, target: Path) -> None:
        """Write the snapshot into a file; raise TransferError (HASH_MISMATCH) when it is damaged."""
        _write(self._content(_RECORDS), target)
        if _digest_of(target).hex() != self.facts.records_sha256:
            raise TransferError(
                f"The records in {self._path} are damaged.",
                reason=ErrorReason.HASH_MISMATCH,
                next_step="Use another backup.",
            )

    def store_blobs(self, blobs: OwnedBlobs) -> int:
        """Put the blobs into a store and return how many there were; raise TransferError (HASH_MISMATCH)."""
        names = [name for name in self._archive.getnames() if name.startswith(_BLOBS)]
        for name in names:
            digest = self._digest_named(name)
            if not blobs.renew(digest):
                unfinished = blobs.incoming / f"restored-{digest.hex()}"
                try:
                    _write(self._content(name), unfinished)
                    blobs.adopt(unfinished, digest)
                finally:
                    unfinished.unlink(missing_ok=True)
        return len(names)

    def _digest_named(self, name: str) -> Digest:
        try:
            return Digest(bytes.fromhex(name.removeprefix(_BLOBS)))
        except ValueError as error:
            raise _no_backup(self._path) from error

    def _content(self, name: str) -> IO[bytes]:
        try:
            content = self._archive.extractfile(name)
        except KeyError as error:
            raise _no_backup(self._path) from error
        if content is None:
            raise _no_backup(self._path)
        return content


@contextmanager
def open_backup(path: Path) -> Iterator[Backup]:
    """Open a backup; raise TransferError (MALFORMED) for a file that is none or was cut off."""
    try:
        with tarfile.open(path, "r:") as archive:
            yield Backup(path, archive)
    except FileNotFoundError as error:
        raise StateError(
            f"There is no file {error.filename}.", reason=ErrorReason.NOT_FOUND, next_step="Check the path."
        ) from error
    except (tarfile.TarError, EOFError) as error:
        raise _no_backup(path) from error


def _add_blobs(archive: tarfile.TarFile, blobs: BlobStore, wanted: Wanted) -> None:
    for digest in sorted(wanted.needed | wanted.past):
        try:
            content = blobs.path(digest).open("rb")
        except (TransferError, FileNotFoundError):
            if digest in wanted.needed:
                raise
            continue
        with content:
            _add(archive, f"{_BLOBS}{digest.hex()}", content)


def _add(archive: tarfile.TarFile, name: str, content: IO[bytes]) -> None:
    member = tarfile.TarInfo(name)
    member.size = content.seek(0, os.SEEK_END)
    member.mode = 0o600
    content.seek(0)
    archive.addfile(member, content)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write(content: IO[bytes], target: Path) -> None:
    with room_in(target.parent), target.open("wb") as file:
        while piece := content.read(_PIECE):
            file.write(piece)


def _digest_of(path: Path) -> Digest:
    with path.open("rb") as file:
        return content_digest(file)


def _no_backup(path: Path) -> TransferError:
    return TransferError(
        f"{path} is no backup of a coordinator, or was cut off.",
        reason=ErrorReason.MALFORMED,
        next_step="Use a file that `ravan-coordinator db backup` has written.",
    )
