"""By what a job tells a better version from a worse one, and which versions it takes. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Protocol

SLACK: Final = 1e-9
"""What a difference of two shares may be off, such as 0.82 - 0.8, which is less than 0.02."""


class Scored(Protocol):
    """Whatever has figures of held-out examples, as far as they are known."""

    @property
    def accuracy(self) -> float | None:
        """Share of right answers, 0 to 1."""
        ...

    @property
    def loss(self) -> float | None:
        """Mean cross-entropy in nats."""
        ...


class Measure(StrEnum):
    """The held-out figure that versions are compared by."""

    ACCURACY = "accuracy"
    LOSS = "loss"

    def read(self, scored: Scored) -> float | None:
        """Return the figure, None where it is not known."""
        return scored.accuracy if self is Measure.ACCURACY else scored.loss

    def gain(self, before: float, after: float) -> float:
        """Return how much better `after` is; negative where it is worse."""
        return after - before if self is Measure.ACCURACY else before - after

    def improves(self, before: float, after: float, least: float) -> bool:
        """Tell whether `after` is better, by at least so much."""
        gain = self.gain(before, after)
        return gain > 0 and gain >= least - SLACK

    def worsens(self, before: float, after: float, tolerance: float) -> bool:
        """Tell whether `after` is worse by more than the tolerance."""
        return self.gain(before, after) < -tolerance - SLACK

    def describe(self, figure: float) -> str:
        """Return the figure as people read it, with its name."""
        return f"accuracy {figure:.1%}" if self is Measure.ACCURACY else f"loss {figure:.4f}"

    def describe_difference(self, figure: float) -> str:
        """Return a difference of two figures as people read it."""
        return f"{100 * figure:g} points" if self is Measure.ACCURACY else f"{figure:g}"


class Gate(StrEnum):
    """Which new versions take the place of the one before."""

    FINITE = "finite"
    """All whose figures are finite."""
    NOT_WORSE = "not_worse"
    """Those of them that are not worse than the one before by more than a tolerance."""
