"""Room for uploads and blobs: they are refused while the disk still has some, so that records can be written.

Whatever writes asks before each piece, so that many who were let in together do not fill the disk either.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Final

from ravan.disk import disk_full, folder_bytes
from ravan.errors import ErrorReason, ResourceError

MEASURE_EVERY_S: Final = 10.0
"""How long a measured size of the folders is counted on from, instead of measuring anew."""

_MB: Final = 1 << 20


class Tally:
    """How many bytes are in use: a measured number, and what was added since. Pure."""

    def __init__(self, most_bytes: int) -> None:
        """Allow so many bytes; 0 allows any number."""
        self._most = most_bytes
        self._used = 0
        self._measured_at: float | None = None

    @property
    def used_bytes(self) -> int:
        """Return what is in use."""
        return self._used

    def is_stale(self, now: float) -> bool:
        """Tell whether the folders have to be measured again."""
        return bool(self._most) and (self._measured_at is None or now - self._measured_at >= MEASURE_EVERY_S)

    def measured(self, used_bytes: int, now: float) -> None:
        """Count on from a measured number."""
        self._used, self._measured_at = used_bytes, now

    def add(self, size_bytes: int) -> bool:
        """Count bytes that are about to be written; tell whether they may be, and count nothing otherwise."""
        if self.fits(size_bytes):
            self._used += size_bytes
            return True
        return False

    def fits(self, size_bytes: int) -> bool:
        """Tell whether so many bytes may be written."""
        return not self._most or self._used + size_bytes <= self._most


class DiskQuota:
    """What may be written below a folder; its methods may be called from any thread, and block on disk."""

    def __init__(
        self,
        root: Path,
        folders: Sequence[Path] = (),
        *,
        reserve_bytes: int = 0,
        most_bytes: int = 0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Leave `reserve_bytes` free on the disk of `root`, and let `folders` hold at most `most_bytes` (0: any)."""
        self._root = root
        self._folders = folders
        self._reserve = reserve_bytes
        self._most = most_bytes
        self._monotonic = monotonic
        self._tally = Tally(most_bytes)
        self._lock = Lock()

    def foresee(self, size_bytes: int) -> None:
        """Raise ResourceError (DISK_FULL) when so many bytes would not fit now; nothing is counted."""
        self._check_disk(size_bytes)
        with self._lock:
            self._refresh()
            if not self._tally.fits(size_bytes):
                raise self._too_much()

    def claim(self, size_bytes: int) -> None:
        """Count bytes that are written next; raise ResourceError (DISK_FULL) when they may not be."""
        self._check_disk(size_bytes)
        with self._lock:
            self._refresh()
            if not self._tally.add(size_bytes):
                raise self._too_much()

    def _check_disk(self, size_bytes: int) -> None:
        free = shutil.disk_usage(self._root).free
        if free < size_bytes:
            raise disk_full(self._root)
        if free < size_bytes + self._reserve:
            raise ResourceError(
                f"The disk of {self._root} has {free // _MB} MB left, of which {self._reserve // _MB} MB stay free.",
                reason=ErrorReason.DISK_FULL,
                next_step="Free space or enlarge the disk, then try again; nothing that was stored is lost.",
            )

    def _refresh(self) -> None:
        now = self._monotonic()
        if self._tally.is_stale(now):
            self._tally.measured(sum(map(folder_bytes, self._folders)), now)

    def _too_much(self) -> ResourceError:
        return ResourceError(
            f"Models, versions and uploads take {self._tally.used_bytes // _MB} MB of {self._most // _MB} MB in"
            f" {self._root}.",
            reason=ErrorReason.DISK_FULL,
            next_step="Raise `limits.data_mb`, or lower `retention.versions`; nothing that was stored is lost.",
        )
