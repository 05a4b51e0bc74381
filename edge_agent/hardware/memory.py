"""Memory of the agent's processes: what is resident now, and the peak of one piece of work."""

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

_PROC: Final = Path("/proc")
_CLEAR_REFS: Final = Path("/proc/self/clear_refs")
_RESET_PEAK: Final = "5"
"""What the kernel's `clear_refs` takes to set the peak back to what is resident now."""

_SAMPLE_S: Final = 0.005


def resident_bytes() -> int:
    """Return what is resident now in this process."""
    return _status_bytes("VmRSS") or _psutil_resident()


def lifetime_peak_bytes() -> int:
    """Return the peak of this process since its start, or since a meter last reset it."""
    return _status_bytes("VmHWM") or _psutil_resident()


def resident_bytes_of(pid: int) -> int:
    """Return what is resident now in another process; 0 for one that has ended."""
    return _status_bytes("VmRSS", pid) or _psutil_resident(pid)


def private_bytes_of(pid: int) -> int:
    """Return what a process holds for itself alone; 0 for one that has ended.

    What it has mapped from files, such as libraries, the agent's other process has mapped as well.
    """
    return _status_bytes("RssAnon", pid) or _psutil_resident(pid)


def bytes_beside(worker_pid: int, agent_pid: int) -> int:
    """Return what the agent holds beside its worker: for its own process alone, and for what else that has started.

    That is `multiprocessing`'s resource tracker, which comes with every process that is spawned.
    """
    others = [pid for pid in _children_of(agent_pid) if pid != worker_pid]
    return private_bytes_of(agent_pid) + sum(_status_bytes("RssAnon", pid) for pid in others)


def agent_bytes(worker_pid: int | None) -> int:
    """Return what the agent holds now: this process and its worker, if there is one, with what belongs to it."""
    if worker_pid is None:
        return resident_bytes()
    return bytes_beside(worker_pid, os.getpid()) + resident_bytes_of(worker_pid)


def agent_peak_bytes(worker_pid: int | None) -> int:
    """Return the peak of the worker beside what this process holds now; without a worker, of this process."""
    if worker_pid is None:
        return lifetime_peak_bytes()
    peak = _status_bytes("VmHWM", worker_pid) or _psutil_resident(worker_pid)
    return bytes_beside(worker_pid, os.getpid()) + peak


def release_unused() -> None:
    """Give freed memory back to the system, so that what is resident is what is in use."""
    gc.collect()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


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


def _children_of(pid: int) -> list[int]:
    """Return the processes that one has started; none where the kernel does not list them."""
    found: list[int] = []
    # A thread may end meanwhile.
    with suppress(OSError):
        for thread in (_PROC / str(pid) / "task").iterdir():
            with suppress(OSError):
                found += map(int, (thread / "children").read_text(encoding="ascii").split())
    return found


def _status_bytes(name: str, pid: int | None = None) -> int:
    try:
        status = _PROC / ("self" if pid is None else str(pid)) / "status"
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:")), 0)


def _psutil_resident(pid: int | None = None) -> int:
    import psutil  # noqa: PLC0415 - only where there is no /proc

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
