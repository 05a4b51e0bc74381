"""Blobs in a folder: `ab/abcdef...`, each written beside, synchronised and then renamed, so it is whole or absent."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from coordinator.store.blobs.base import StoredBlob, blob_missing
from coordinator.store.quota import DiskQuota
from ravan.codec.chunks import content_digest, hash_mismatch
from ravan.disk import move_durably, room_in
from ravan.ids import Digest

_INCOMING = "incoming"


class LocalBlobs:
    """A folder of blobs on one disk; see `coordinator.store.blobs.base.OwnedBlobs`."""

    def __init__(self, root: Path, quota: DiskQuota | None = None) -> None:
        """Use or make the folder, readable by its owner alone; without a quota the disk alone bounds it."""
        self._root = root
        self._incoming = root / _INCOMING
        self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = Lock()
        self.quota = quota or DiskQuota(root)

    @property
    def incoming(self) -> Path:
        """Return a folder on the same disk for files that are not whole yet; `adopt` takes them from there."""
        return self._incoming

    def put(self, data: bytes) -> Digest:
        """Store bytes durably; raise ResourceError(DISK_FULL) and keep nothing when there is no room."""
        digest = Digest(hashlib.sha256(data).digest())
        if not self.renew(digest):
            self.quota.claim(len(data))
            with room_in(self._root), self._writing(digest) as file:
                file.write(data)
        return digest

    def adopt(self, path: Path, digest: Digest) -> None:
        """Move a complete file into the store; raise TransferError(HASH_MISMATCH), leaving it, when it is another."""
        with room_in(self._root):
            with path.open("rb") as file:
                if content_digest(file) != digest:
                    raise hash_mismatch(digest)
                os.fsync(file.fileno())
            if self.renew(digest):
                path.unlink()
            else:
                self._take(path, digest)

    def exists(self, digest: Digest) -> bool:
        """Tell whether the blob is here."""
        return self._place(digest).is_file()

    def size(self, digest: Digest) -> int:
        """Return the length in bytes; raise TransferError(BLOB_MISSING) when absent."""
        return self.path(digest).stat().st_size

    def read(self, digest: Digest) -> bytes:
        """Return the whole content; raise TransferError(BLOB_MISSING) when absent."""
        return self.path(digest).read_bytes()

    def path(self, digest: Digest) -> Path:
        """Return a readable path of the content; raise TransferError(BLOB_MISSING) when absent."""
        place = self._place(digest)
        if not place.is_file():
            raise blob_missing(digest)
        return place

    def renew(self, digest: Digest) -> bool:
        """Tell whether the blob is here, and count it as put just now."""
        with self._lock:
            try:
                os.utime(self._place(digest))
            except FileNotFoundError:
                return False
            return True

    def stored(self) -> Iterator[StoredBlob]:
        """Yield every blob."""
        for folder in self._root.iterdir():
            if folder != self._incoming:
                for file in folder.iterdir():
                    status = file.stat()
                    digest = Digest(bytes.fromhex(file.name))
                    yield StoredBlob(digest=digest, size_bytes=status.st_size, stored_at=status.st_mtime)

    def remove(self, digest: Digest, *, before: float) -> bool:
        """Remove a blob unless it was put at this time or later; tell whether it went."""
        place = self._place(digest)
        # Under the lock, so that what is put again meanwhile is either renewed before or written after.
        with self._lock:
            if not place.is_file() or place.stat().st_mtime >= before:
                return False
            place.unlink()
            return True

    def discard_incoming(self) -> None:
        """Remove what an earlier process left unfinished; for a daemon that owns the folder, when it starts."""
        for leftover in self._incoming.iterdir():
            leftover.unlink()

    def _place(self, digest: Digest) -> Path:
        name = digest.hex()
        return self._root / name[:2] / name

    def _take(self, path: Path, digest: Digest) -> None:
        place = self._place(digest)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            move_durably(path, place)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with path.open("rb") as source, self._writing(digest) as file:
                shutil.copyfileobj(source, file)
            path.unlink()

    @contextmanager
    def _writing(self, digest: Digest) -> Iterator[BinaryIO]:
        """Give a file its name when the block ends, or remove it when the block or the disk fails."""
        descriptor, name = tempfile.mkstemp(dir=self._incoming)
        unfinished = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            place = self._place(digest)
            place.parent.mkdir(mode=0o700, exist_ok=True)
            move_durably(unfinished, place)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
