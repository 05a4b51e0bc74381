"""How long a round's sites have for training. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from coordinator.allocation.policy import matrices_from_top
from coordinator.allocation.ranking import Tiles
from coordinator.jobs.jobfile import RoundTable
from ravan.manifest.assignment import Tile
from ravan.manifest.profile import JobProfile

MARGIN: Final = 2.0
"""What the slowest site gets, over what its own measurement predicts: PCs of a plant have other work."""

FLOOR_S: Final = 120.0
"""Least deadline. Training begins with fetching the version, which no measurement of steps tells of."""


def predict_training_s(tiles: Sequence[Tile], profile: JobProfile, steps: int, trained: Tiles, scored: Tiles) -> float:
    """Return the seconds that a site's own measurement predicts for its part of a round.

    A step passes through all layers above the lowest that it trains; scoring takes one step more over what it scores.
    """
    spanned = matrices_from_top(tiles)
    training = steps * profile.step_s(spanned[max(trained, default=-1) + 1])
    return training + (profile.step_s(spanned[max(scored) + 1]) if scored else 0.0)


def settle_deadline(table: RoundTable, predictions: Iterable[float]) -> float:
    """Return the training deadline in seconds of a round whose sites are predicted to train so long."""
    if table.training_deadline_s != "auto":
        return table.training_deadline_s
    return min(table.longest_training_s, max(FLOOR_S, MARGIN * max(predictions)))
