"""Hours in which a PC may train, against a slow minute-by-minute calendar."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.host.shifts import DAYS, parse_shift

MONDAY = datetime(2026, 11, 23)


def minutes_of(first: int, last: int, begin: int, end: int) -> set[int]:
    """Return the minutes of the week in a shift, counted one by one from each of its days on."""
    day, found = first, set()
    while True:
        length = end - begin if begin < end else end + 1440 - begin
        found |= {(day * 1440 + begin + n) % (7 * 1440) for n in range(length)}
        if day == last:
            return found
        day = (day + 1) % 7


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 1439), st.integers(0, 1440), st.integers(0, 7 * 1440 - 1))
def test_a_shift_covers_its_minutes(first: int, last: int, begin: int, end: int, minute: int) -> None:
    if begin == end:
        return
    text = f"{DAYS[first]}-{DAYS[last]} {begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}"
    moment = MONDAY + timedelta(minutes=minute, seconds=59)
    assert parse_shift(text).covers(moment) == (minute in minutes_of(first, last, begin, end))


def test_one_day_needs_no_span() -> None:
    assert parse_shift("sun 00:00-24:00") == parse_shift("sun-sun 00:00-24:00")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "is no shift"),
        ("mon-fri", "is no shift"),
        ("Mon 08:00-09:00", "is no shift"),
        ("mon 8:00-9:00", "is no shift"),
        ("mon 08:00-09:00 ", "is no shift"),
        ("mot 08:00-09:00", "`mot` is no day"),
        ("mon 08:60-09:00", "`08:60` is no time"),
        ("mon 08:00-24:01", "`24:01` is no time"),
        ("mon 08:00-08:00", "no minute"),
        ("mon 24:00-08:00", "no minute"),
    ],
)
def test_what_is_no_shift_is_named(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        parse_shift(text)
