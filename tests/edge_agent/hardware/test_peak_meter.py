"""The peak of a piece of work: what was there only for a moment counts, what was there before does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_agent.hardware import memory
from edge_agent.hardware.memory import PeakMeter, lifetime_peak_bytes, release_unused, resident_bytes

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
        for _ in range(8):  # long enough for a sampler to see one of them
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


def test_resident_memory_follows_what_is_held() -> None:
    before = resident_bytes()
    held = np.ones(BLOCK, np.uint8)
    grown = resident_bytes() - before
    del held
    assert BLOCK - SLACK < grown < BLOCK + SLACK
    assert lifetime_peak_bytes() >= before + grown - SLACK
