"""Blobs in a bucket of an S3-compatible store, with copies in a folder for whoever needs a path.

Imported only where the configuration names a bucket, and only then is obstore. Keys are those of the
local folder (`ab/abcdef...`), so that a folder may be copied into a bucket as it is.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from coordinator.store.blobs.base import StoredBlob, blob_missing
from coordinator.store.blobs.local import LocalBlobs
from coordinator.store.quota import DiskQuota
from ravan.codec.chunks import content_digest, hash_mismatch
from ravan.disk import room_in
from ravan.errors import ErrorReason, ResourceError
from ravan.ids import Digest

PATIENCE: Final = timedelta(seconds=30)
"""How long a request is repeated before its caller hears that the store does not answer."""

SPARED_S: Final = 3600.0
"""Copies that were asked for within this time stay, whatever the folder may hold."""

_PART_BYTES: Final = 8 << 20
_ATTEMPTS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Where objects are kept."""

    name: str
    prefix: str = ""
    endpoint: str = ""
    """Empty: Amazon's own."""
    region: str
    access_key_id: str = ""
    """Empty, with the secret: whatever the environment or the machine's role gives."""
    secret_access_key: str = field(default="", repr=False)


class ObjectBlobs:
    """Objects under their hash; see `coordinator.store.blobs.base.OwnedBlobs`.

    An object is durable before its copy is; the folder holds nothing that the bucket has not.
    """

    def __init__(self, bucket: Bucket, cache: Path, *, cache_bytes: int, quota: DiskQuota | None = None) -> None:
        """Use a bucket that exists; raise ResourceError (UNREACHABLE) when it cannot be listed."""
        self._shown = f"{bucket.endpoint or 's3:/'}/{bucket.name}"
        self._store = S3Store(bucket.name, **_options(bucket))
        self._cache = LocalBlobs(cache, quota)
        self._cache_bytes = cache_bytes
        self._renewed: dict[Digest, float] = {}
        with self._reached():
            next(iter(obstore.list(self._store, chunk_size=1)), None)

    @property
    def incoming(self) -> Path:
        """Return the folder on the copies' disk for files that are not whole yet."""
        return self._cache.incoming

    @property
    def quota(self) -> DiskQuota:
        """Return what bounds the copies' disk."""
        return self._cache.quota

    def discard_incoming(self) -> None:
        """Remove what an earlier process left unfinished."""
        self._cache.discard_incoming()

    def put(self, data: bytes) -> Digest:
        """Store bytes durably; raise ResourceError when the store or the disk of the copies fails."""
        digest = Digest(hashlib.sha256(data).digest())
        with self._reached():
            obstore.put(self._store, _key(digest), data)
        self._cache.put(data)
        self._make_room()
        return digest

    def adopt(self, path: Path, digest: Digest) -> None:
        """Store a complete file and keep it as the copy; raise TransferError (HASH_MISMATCH) for another's."""
        with path.open("rb") as file:
            if content_digest(file) != digest:
                raise hash_mismatch(digest)
        with self._reached():
            obstore.put(self._store, _key(digest), path)
        self._cache.adopt(path, digest)
        self._make_room()

    def exists(self, digest: Digest) -> bool:
        """Tell whether the blob is here."""
        return self._cache.exists(digest) or self._head(digest) is not None

    def renew(self, digest: Digest) -> bool:
        """Tell whether the blob is here, and count it as put just now, for as long as this process lives."""
        if self._head(digest) is None:
            return False
        self._renewed[digest] = time.time()
        return True

    def size(self, digest: Digest) -> int:
        """Return the length in bytes; raise TransferError(BLOB_MISSING) when absent."""
        if self._cache.exists(digest):
            return self._cache.size(digest)
        found = self._head(digest)
        if found is None:
            raise blob_missing(digest)
        return int(found["size"])

    def read(self, digest: Digest) -> bytes:
        """Return the whole content; raise TransferError(BLOB_MISSING) when absent."""
        return self.path(digest).read_bytes()

    def path(self, digest: Digest) -> Path:
        """Return the path of a copy, fetched where there is none; raise TransferError(BLOB_MISSING) when absent."""
        if not self._cache.renew(digest):
            self._fetch(digest)
            self._make_room()
        return self._cache.path(digest)

    def stored(self) -> Iterator[StoredBlob]:
        """Yield every blob of the bucket."""
        with self._reached():
            for page in obstore.list(self._store):
                for found in page:
                    digest = _digest(found["path"])
                    if digest is not None:
                        put_at = found["last_modified"].timestamp()
                        stored_at = max(put_at, self._renewed.get(digest, 0.0))
                        yield StoredBlob(digest=digest, size_bytes=found["size"], stored_at=stored_at)

    def remove(self, digest: Digest, *, before: float) -> bool:
        """Remove a blob and its copy unless it was put at this time or later; tell whether it went."""
        found = self._head(digest)
        if found is None or max(found["last_modified"].timestamp(), self._renewed.get(digest, 0.0)) >= before:
            return False
        with self._reached():
            obstore.delete(self._store, _key(digest))
        self._cache.remove(digest, before=float("inf"))
        return True

    def _head(self, digest: Digest) -> Any:
        with self._reached():
            try:
                return obstore.head(self._store, _key(digest))
            except FileNotFoundError:
                return None

    def _fetch(self, digest: Digest) -> None:
        size_bytes = self.size(digest)
        descriptor, name = tempfile.mkstemp(dir=self._cache.incoming)
        copy = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file, room_in(copy.parent):
                # In parts: a request has to end within its time limit, however large the object is.
                for start in range(0, size_bytes, _PART_BYTES):
                    length = min(_PART_BYTES, size_bytes - start)
                    with self._reached():
                        part = obstore.get_range(self._store, _key(digest), start=start, length=length)
                    file.write(part)
            # It checks the hash: what a store gives back may not be what it was given.
            self._cache.adopt(copy, digest)
        finally:
            copy.unlink(missing_ok=True)

    def _make_room(self) -> None:
        """Remove the copies that were asked for longest ago, until the others fit."""
        copies = sorted(self._cache.stored(), key=lambda copy: copy.stored_at)
        surplus = sum(copy.size_bytes for copy in copies) - self._cache_bytes
        spared = time.time() - SPARED_S
        for copy in copies:
            if surplus <= 0:
                break
            if self._cache.remove(copy.digest, before=spared):
                surplus -= copy.size_bytes

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            # Objects that are missing are dealt with where they are asked for; what is left is the bucket.
            raise self._unreachable("there is no such bucket") from error
        except (BaseError, PermissionError) as error:
            raise self._unreachable(str(error).partition("\n")[0][:300]) from error

    def _unreachable(self, why: str) -> ResourceError:
        return ResourceError(
            f"The object store {self._shown} cannot be reached or refuses: {why}.",
            reason=ErrorReason.UNREACHABLE,
            next_step="Check that it runs, and [objects] in coordinator.toml with its key and secret.",
        )


def _options(bucket: Bucket) -> dict[str, Any]:
    given = {
        "prefix": bucket.prefix,
        "endpoint": bucket.endpoint,
        "access_key_id": bucket.access_key_id,
        "secret_access_key": bucket.secret_access_key,
    }
    return {
        **{name: value for name, value in given.items() if value},
        "region": bucket.region,
        "client_options": {"allow_http": bucket.endpoint.startswith("http://"), "connect_timeout": "5s"},
        "retry_config": {"max_retries": _ATTEMPTS, "retry_timeout": PATIENCE},
    }


def _key(digest: Digest) -> str:
    name = digest.hex()
    return f"{name[:2]}/{name}"


def _digest(key: str) -> Digest | None:
    """Return the hash that a key stands for; None for what others have put into the bucket."""
    try:
        digest = Digest(bytes.fromhex(key.rpartition("/")[2]))
    except ValueError:
        return None
    return digest if _key(digest) == key and len(digest) == hashlib.sha256().digest_size else None
