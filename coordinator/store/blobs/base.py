"""The blob store's interface. All methods block on disk or network; callers on an event loop use a thread."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from coordinator.store.quota import DiskQuota
from ravan.errors import ErrorReason, TransferError
from ravan.ids import Digest


class BlobStore(Protocol):
    """Keep immutable content under its hash."""

    def put(self, data: bytes) -> Digest:
        """Store bytes durably; content that is here already counts as put just now.

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
        """Return a readable path of the content; raise TransferError(BLOB_MISSING) when absent.

        Where it is only a copy, it stays for an hour at least.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBlob:
    """What a list of blobs says of each."""

    digest: Digest
    size_bytes: int
    stored_at: float
    """When it was last put, seconds since the Unix epoch."""


class OwnedBlobs(BlobStore, Protocol):
    """A blob store as its owner sees it: what comes in, what is there, what may go."""

    @property
    def incoming(self) -> Path:
        """Return a folder for files that are not whole yet; `adopt` takes them from there."""
        ...

    @property
    def quota(self) -> DiskQuota:
        """Return what bounds the files that are not whole yet; whoever writes them asks it."""
        ...

    def discard_incoming(self) -> None:
        """Remove what an earlier process left unfinished."""
        ...

    def renew(self, digest: Digest) -> bool:
        """Tell whether the blob is here, and count it as put just now: perhaps nobody refers to it yet."""
        ...

    def stored(self) -> Iterator[StoredBlob]:
        """Yield every blob."""
        ...

    def remove(self, digest: Digest, *, before: float) -> bool:
        """Remove a blob unless it was put at this time or later; tell whether it went."""
        ...


def blob_missing(digest: Digest) -> TransferError:
    """Return the error for content that is not stored."""
    return TransferError(
        f"No content with SHA-256 {digest.hex()} is stored here.",
        reason=ErrorReason.BLOB_MISSING,
        next_step="An old version of a model goes when [retention] says so. After a restore without blobs: put the"
        " blobs back, or take the model in and submit the job again.",
    )
