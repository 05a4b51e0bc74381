"""Where this coordinator's records and blobs are, as its configuration says."""

from __future__ import annotations

from pathlib import Path

from coordinator.config import CoordinatorFile, DataFolder
from coordinator.store.blobs.base import OwnedBlobs
from coordinator.store.blobs.local import LocalBlobs
from coordinator.store.quota import DiskQuota
from coordinator.store.sql.database import Place, PostgresAddress
from ravan.errors import ConfigError, ErrorReason


def records_place(config: CoordinatorFile) -> Place:
    """Return where the records are; raise ConfigError when the password's file cannot be read."""
    database = config.database
    if not database.url:
        return DataFolder(config.server.data_dir).database
    return PostgresAddress(url=database.url, password=_read_secret(database.password_file, "database.password_file"))


def open_blobs(config: CoordinatorFile) -> OwnedBlobs:
    """Return the blob store, with a quota that what is staged beside it shares.

    Raises ConfigError when it cannot be what the configuration says, ResourceError (UNREACHABLE) when a
    bucket does not answer.
    """
    folder, table = DataFolder(config.server.data_dir), config.objects
    if not table.bucket:
        return LocalBlobs(folder.blobs, _quota_of(config))
    try:
        from coordinator.store.blobs.objects import Bucket, ObjectBlobs  # noqa: PLC0415 - only where one is named
    except ImportError as error:
        raise ConfigError(
            "[objects] names a bucket, and the package that speaks to object stores is not installed.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="Install it: `pip install 'ravan[coordinator,s3]'`.",
        ) from error
    bucket = Bucket(
        name=table.bucket,
        prefix=table.prefix,
        endpoint=table.endpoint,
        region=table.region,
        access_key_id=table.access_key_id,
        secret_access_key=_read_secret(table.secret_file, "objects.secret_file"),
    )
    return ObjectBlobs(bucket, folder.cache, cache_bytes=table.cache_mb << 20, quota=_quota_of(config))


def _read_secret(path: str, key: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"The file {path} that `{key}` names cannot be read: {(cause or str(error)).lower()}.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step=f"Correct `{key}`, or let the coordinator's user read the file.",
        ) from error


def _quota_of(config: CoordinatorFile) -> DiskQuota:
    folder, limits = DataFolder(config.server.data_dir), config.limits
    return DiskQuota(
        folder.root,
        (folder.blobs, folder.staging),
        reserve_bytes=limits.disk_reserve_mb << 20,
        most_bytes=limits.data_mb << 20,
    )
