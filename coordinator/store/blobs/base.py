"""The blob store's interface. All methods block on disk; callers on an event loop use a thread."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ravan.ids import Digest


class BlobStore(Protocol):
    """Keep immutable content under its hash."""

    def put(self, data: bytes) -> Digest:
        """Store bytes durably (write, fsync, rename).

        Raises ResourceError(DISK_FULL), and keeps nothing, when there is no room.
        """
        ...

    def adopt(self, path: Path, digest: Digest) -> None:
        """Move a complete, verified file of this hash into the store."""
        ...

    def exists(self, digest: Digest) -> bool:
        """Tell whether the blob is here."""
        ...

    def size(self, digest: Digest) -> int:
        """Return the length in bytes; raise TransferError(BLOB_MISSING) when absent."""
        ...

    def read(self, digest: Digest) -> bytes:
        """Return the whole content; raise TransferError(BLOB_MISSING) when absent."""
        ...

    def path(self, digest: Digest) -> Path:
        """Return a readable path of the content; raise TransferError(BLOB_MISSING) when absent."""
        ...
