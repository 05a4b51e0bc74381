"""The peak of a piece of work: what was there only for a moment counts, what was there before does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_agent.hardware import memory
from edge_agent.hardware.memory import PeakMeter, release_unused, resident_bytes

BLOCK = 64 << 20
SLACK = 16 << 20


def touch(size: int) -> int:
    return int(np.ones(size, np.uint8)[-1])


@pytest.fixture(params=["kernel", "sampling"])
def _way(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "sampling":
        monkeypatch.setattr(memory, "_CLEAR_REFS", tmp_path / "missing" / "clear_refs")


@pytest.mark.usefixtures("_way")
def test_memory_that_was_freed_again_counts() -> None:
    release_unused()
    before = resident_bytes()
    with PeakMeter() as meter:
        for _ in range(40):  # long enough for a sampler to see one of them
            touch(BLOCK)
    assert BLOCK - SLACK < meter.peak_bytes() - before < BLOCK + SLACK


def test_an_earlier_peak_does_not_count() -> None:
    touch(4 * BLOCK)
    release_unused()
    before = resident_bytes()
    with PeakMeter() as meter:
        touch(1)
    touch(2 * BLOCK)
    assert meter.peak_bytes() - before < SLACK


HELD = """
import sys
import numpy as np
from edge_agent.hardware.memory import lifetime_peak_bytes, resident_bytes
before = resident_bytes()
held = np.ones(int(sys.argv[1]), np.uint8)
print(before, resident_bytes(), lifetime_peak_bytes())
"""


def test_resident_memory_follows_what_is_held() -> None:
    # in a process of its own: here another test's thread may just be giving memory back
    told = subprocess.run([sys.executable, "-c", HELD, str(BLOCK)], check=True, capture_output=True, text=True).stdout
    before, after, peak = map(int, told.split())
    assert BLOCK - SLACK < after - before < BLOCK + SLACK
    assert peak >= after - SLACK


HOLES = """
import ctypes, sys
from edge_agent.hardware.memory import resident_bytes
from ravan.heap import give_back_at_once
if sys.argv[1] == "fixed":
    give_back_at_once()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
libc.free(libc.malloc(16 << 20))
blocks = [libc.malloc(8 << 20) for _ in range(8)]
for block in blocks:
    ctypes.memset(block, 1, 8 << 20)
before = resident_bytes()
for block in blocks[:-1]:
    libc.free(block)
print(before - resident_bytes())
"""
"""Blocks are freed below one that stays, after a larger one was freed."""


def given_back(how: str, **environment: str) -> int:
    """Return how much of seven blocks of 8 MiB each is given back to the system by freeing them."""
    command = [sys.executable, "-c", HOLES, how]
    return int(subprocess.run(command, check=True, capture_output=True, env=os.environ | environment).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is one of glibc")
def test_freed_blocks_go_back_at_once() -> None:
    assert given_back("default") < BLOCK // 8
    assert given_back("fixed") > 7 * BLOCK // 8 - SLACK


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is one of glibc")
def test_the_limit_in_the_environment_holds() -> None:
    assert given_back("fixed", MALLOC_MMAP_THRESHOLD_="33554432") < BLOCK // 8
