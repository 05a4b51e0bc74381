"""A course of figures in one line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

_BARS: Final = "▁▂▃▄▅▆▇█"


def draw_sparkline(values: Sequence[float], *, width: int = 24) -> str:
    """Return a bar for each of the newest `width` values, from the least to the greatest; a gap where one is none."""
    shown = values[-width:]
    figures = [value for value in shown if math.isfinite(value)]
    if not figures:
        return ""
    low, high = min(figures), max(figures)
    return "".join(_bar(value, low, high) for value in shown)


def _bar(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return " "
    # Halves, since the distance of two floats may be beyond the greatest.
    span = high / 2 - low / 2
    return _BARS[round((value / 2 - low / 2) / span * (len(_BARS) - 1))] if span > 0 else _BARS[len(_BARS) // 2]
