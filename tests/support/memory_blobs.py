"""A blob store in a plain folder, for tests that need files under their hash and nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ravan.errors import ErrorReason, TransferError
from ravan.ids import Digest


class FolderBlobs:
    """Keep blobs as files named by their hash."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, data: bytes) -> Digest:
        digest = Digest(hashlib.sha256(data).digest())
        (self._folder / digest.hex()).write_bytes(data)
        return digest

    def adopt(self, path: Path, digest: Digest) -> None:
        path.rename(self._folder / digest.hex())

    def exists(self, digest: Digest) -> bool:
        return (self._folder / digest.hex()).exists()

    def size(self, digest: Digest) -> int:
        return self.path(digest).stat().st_size

    def read(self, digest: Digest) -> bytes:
        return self.path(digest).read_bytes()

    def path(self, digest: Digest) -> Path:
        path = self._folder / digest.hex()
        if not path.exists():
            raise TransferError("no such blob", reason=ErrorReason.BLOB_MISSING)
        return path
