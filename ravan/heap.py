"""How the C library deals with memory that is freed."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
"""Numbers of the settings in glibc's malloc.h."""

_OWN_MAPPING_BYTES: Final = 128 << 10
"""What glibc itself starts with."""

_THRESHOLD_VARIABLE: Final = "MALLOC_MMAP_THRESHOLD_"
_ARENAS_VARIABLE: Final = "MALLOC_ARENA_MAX"


def give_back_at_once(above_bytes: int = _OWN_MAPPING_BYTES, spare_bytes: int = _OWN_MAPPING_BYTES) -> None:
    """Have the C library return every freed block above a size to the system; before large blocks are made.

    Of smaller blocks that were freed it keeps `spare_bytes` at the end of each heap, and gives back what is beyond.

    By default glibc raises that limit with each such block freed and keeps what lies below it, in an order that differs
    from process to process. In an agent, what a matrix takes was measured between 5 and 24 MB, and is 8.2 MB with the
    limit fixed; the coordinator of a round of 60 sites peaked at 219 MB, and at 203 MB with it. Elsewhere, and where
    the environment has its own limit, nothing is changed.
    """
    if sys.platform == "linux" and _THRESHOLD_VARIABLE not in os.environ:
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            library.mallopt(_M_MMAP_THRESHOLD, above_bytes)
            library.mallopt(_M_TRIM_THRESHOLD, spare_bytes)


def share_arenas(count: int) -> None:
    """Have all threads take memory from so many heaps, instead of eight a core; before there are threads.

    gRPC's threads each leave blocks in a heap of their own: the coordinator of 60 sites unmasked at 179 MB, with two
    heaps at 158 MB. Where the environment has its own number, nothing is changed.
    """
    if sys.platform == "linux" and _ARENAS_VARIABLE not in os.environ:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, count)


def give_back_now() -> None:
    """Have the C library return what small freed blocks left between larger ones; takes milliseconds.

    After a hundred uploads that is 30 MB: the pieces in which messages come are smaller than the limit above.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
