"""A figure over the rounds, as a small SVG picture that a screen reader can read out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from coordinator.status.markup import Markup, element, joined
from coordinator.status.words import Phrases, Word

WIDTH: Final = 320
HEIGHT: Final = 120
_MARGIN: Final = 12
_LABELS: Final = 44
"""Room for the figures at the left."""


def draw_curve(
    name: str, points: Sequence[tuple[int, float]], show: Callable[[float], str], phrases: Phrases
) -> Markup:
    """Return the curve of `points`, round number and value in order of the rounds; nothing where there are none."""
    if not points:
        return Markup("")
    values = [value for _, value in points]
    low, high = min(values), max(values)
    places = _places(points, low, high)
    told = phrases.say(
        Word.CURVE, name=name, first=show(values[0]), last=show(values[-1]), low=show(low), high=show(high)
    )
    dots = (
        element("circle", element("title", f"{number}: {show(value)}"), cx=x, cy=y, r=2.5)
        for (number, value), (x, y) in zip(points, places, strict=True)
    )
    picture = element(
        "svg",
        element("title", told),
        element("polyline", points=" ".join(f"{x},{y}" for x, y in places), fill="none"),
        *dots,
        _label(show(high), 0, _MARGIN + 4),
        _label(show(low), 0, HEIGHT - _MARGIN) if high > low else Markup(""),
        _label(str(points[0][0]), _LABELS, HEIGHT),
        _label(str(points[-1][0]), WIDTH - _MARGIN, HEIGHT, anchor="end") if len(points) > 1 else Markup(""),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        class_="curve",
    )
    return element("figure", element("figcaption", name), picture)


def _places(points: Sequence[tuple[int, float]], low: float, high: float) -> list[tuple[float, float]]:
    first, last = points[0][0], points[-1][0]
    across, down = WIDTH - _LABELS - _MARGIN, HEIGHT - 2 * _MARGIN - 8
    return [
        (
            round(_LABELS + across * (number - first) / max(1, last - first), 1),
            round(_MARGIN + (down * (high - value) / (high - low) if high > low else down / 2), 1),
        )
        for number, value in points
    ]


def _label(text: str, x: float, y: float, anchor: str = "start") -> Markup:
    return joined((element("text", text, x=x, y=y, text_anchor=anchor, aria_hidden="true"),))
