"""When a PC may train: windows of the week, written as `mon-fri 18:00-06:00`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES: Final = 24 * 60

_WINDOW: Final = re.compile(
    r"(?P<first>[a-z]{3})(?:-(?P<last>[a-z]{3}))? (?P<begin>\d\d:\d\d)-(?P<end>\d\d:\d\d)", re.ASCII
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """A span of hours that begins on each of some days; one that ends before it begins ends the day after."""

    days: frozenset[int]
    """0 is Monday."""
    begin: int
    """Minutes from midnight, as `end`."""
    end: int

    def covers(self, moment: datetime) -> bool:
        """Tell whether a moment of this PC's own clock lies in it; `end` itself does not."""
        minute, today = moment.hour * 60 + moment.minute, moment.weekday()
        if self.begin < self.end:
            return today in self.days and self.begin <= minute < self.end
        yesterday = (today - 1) % 7
        return (today in self.days and minute >= self.begin) or (yesterday in self.days and minute < self.end)


def parse_shift(text: str) -> Shift:
    """Read one window; raise ValueError with a sentence."""
    match = _WINDOW.fullmatch(text)
    if match is None:
        raise ValueError(f"`{text}` is no shift; write one like `mon-fri 18:00-06:00` or `sun 00:00-24:00`")
    first, last = _day(match["first"]), _day(match["last"] or match["first"])
    begin, end = _minutes(match["begin"]), _minutes(match["end"])
    if begin in {DAY_MINUTES, end}:
        raise ValueError(f"`{text}` has no minute in it")
    days = frozenset((first + n) % 7 for n in range((last - first) % 7 + 1))
    return Shift(days=days, begin=begin, end=end)


def _day(name: str) -> int:
    if name not in DAYS:
        raise ValueError(f"`{name}` is no day; days are {', '.join(DAYS)}")
    return DAYS.index(name)


def _minutes(clock: str) -> int:
    hours, minutes = map(int, clock.split(":"))
    total = hours * 60 + minutes
    if minutes > 59 or total > DAY_MINUTES:
        raise ValueError(f"`{clock}` is no time of day")
    return total
