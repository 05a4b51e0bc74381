"""What a look at one thing of the PC brought; the lines of `doctor`."""

from __future__ import annotations

from dataclasses import dataclass

from ravan.errors import RavanError


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One checked thing."""

    name: str
    good: bool
    sentence: str
    remedy: str = ""


def bad(name: str, error: RavanError) -> Finding:
    """Return the finding that an error stands for."""
    return Finding(name=name, good=False, sentence=str(error), remedy=error.next_step)
