"""Memory of this process: what is resident now, and the peak of one piece of work."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_STATUS: Final = Path("/proc/self/status")
_CLEAR_REFS: Final = Path("/proc/self/clear_refs")
_RESET_PEAK: Final = "5"
"""What the kernel's `clear_refs` takes to set the peak back to what is resident now."""

_SAMPLE_S: Final = 0.005
_M_MMAP_THRESHOLD: Final = -3
"""Number of the setting in glibc's malloc.h."""

_OWN_MAPPING_BYTES: Final = 128 << 10
"""What glibc itself starts with."""

_THRESHOLD_VARIABLE: Final = "MALLOC_MMAP_THRESHOLD_"


def resident_bytes() -> int:
    """Return what is resident now."""
    return _status_bytes("VmRSS") or _psutil_resident()


def lifetime_peak_bytes() -> int:
    """Return the peak since the start, or since a meter last reset it."""
    return _status_bytes("VmHWM") or _psutil_resident()


def release_unused() -> None:
    """Give freed memory back to the system, so that what is resident is what is in use."""
    gc.collect()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def give_back_at_once() -> None:
    """Have the C library return every freed block of 128 KiB or more to the system; before the first tensor is made.

    By default glibc raises that limit with each such block freed and keeps what lies below it, in an order that differs
    from process to process: what a matrix takes was measured between 5 and 24 MB, and is 8.2 MB with the limit fixed.
    Elsewhere, and where the environment has its own limit, nothing is changed.
    """
    if sys.platform == "linux" and _THRESHOLD_VARIABLE not in os.environ:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _OWN_MAPPING_BYTES)


class PeakMeter:
    """Find the peak of resident memory inside a `with` block: by the kernel's own mark, else by sampling."""

    def __init__(self) -> None:
        self._highest = 0
        self._stop = threading.Event()
        self._sampler: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._highest = resident_bytes()
        if not _reset_peak():
            self._sampler = threading.Thread(target=self._sample, name="memory-peak", daemon=True)
            self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.peak_bytes()
        self._stop.set()
        if self._sampler is not None:
            self._sampler.join()

    def peak_bytes(self) -> int:
        """Return the peak so far; after the block, that of the block."""
        if not self._stop.is_set():
            now = resident_bytes() if self._sampler is not None else lifetime_peak_bytes()
            self._highest = max(self._highest, now)
        return self._highest

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            self._highest = max(self._highest, resident_bytes())


def _reset_peak() -> bool:
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def _status_bytes(name: str) -> int:
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:")), 0)


def _psutil_resident() -> int:
    import psutil  # noqa: PLC0415 - only where there is no /proc

    return int(psutil.Process().memory_info().rss)
