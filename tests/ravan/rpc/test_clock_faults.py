"""What is said of clocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravan.rpc.clock_faults import TOLERANCE_S, clocks_differ

NOON = 1_795_780_800.0
"""2026-11-27 12:00:00 UTC."""


@pytest.mark.parametrize(
    ("ahead_s", "words"),
    [
        (18_000, "This PC's clock shows 2026-11-27 17:00:00 UTC, the coordinator's 2026-11-27 12:00:00 UTC"),
        (18_000, ": this PC is 5 h 0 min ahead."),
        (-5_430, ": this PC is 1 h 30 min behind."),
        (-120, ": this PC is 2 min behind."),
        (86_400 * 2 + 3600, ": this PC is 2 d 1 h ahead."),
    ],
)
def test_both_times_and_the_difference_are_named(ahead_s: float, words: str) -> None:
    fault = clocks_differ(NOON + ahead_s, NOON)
    assert fault is not None
    assert words in str(fault)
    assert "time synchronisation" in fault.next_step


@pytest.mark.parametrize("ahead_s", [0.0, TOLERANCE_S, -TOLERANCE_S])
def test_a_minute_is_nothing(ahead_s: float) -> None:
    assert clocks_differ(NOON + ahead_s, NOON) is None


@given(theirs=st.floats(allow_nan=False, allow_infinity=False))
def test_any_time_can_be_told(theirs: float) -> None:
    fault = clocks_differ(NOON, theirs)
    assert (fault is None) == (abs(NOON - theirs) <= TOLERANCE_S)
    assert fault is None or "This PC's clock shows 2026-11-27 12:00:00 UTC" in str(fault)
