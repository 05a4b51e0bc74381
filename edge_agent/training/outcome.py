"""What a round's training gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ravan.adapters.state import FloatArray
from ravan.errors import DataError, ErrorReason
from ravan.ids import BlockId
from ravan.secagg.statistics import LocalStatistics


class TrainingCancelledError(Exception):
    """What trained, or measured or read for training, was called off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCost:
    """What a round's training took of the PC."""

    extra_peak_bytes: int
    """Highest resident memory over the loaded idle model."""
    step_cpu_s: float
    """Processor seconds a step, mean."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingOutcome:
    """The site's update; it leaves the site masked or not at all."""

    deltas: Mapping[BlockId, FloatArray] = field(repr=False)
    """Of exactly the blocks that were trained: (r, r) for heads, the parameter's shape for dense blocks."""
    statistics: LocalStatistics = field(repr=False)
    held_examples: int = field(repr=False)
    """Examples in the site's data; where the round has weights, they become one."""
    scores: Mapping[BlockId, float] = field(default_factory=dict, repr=False)
    """Of the heads that the round wants scored, from 0 to 1."""
    cost: TrainingCost


def not_finite() -> DataError:
    """Return the error for a loss or gradient that is NaN or infinite."""
    return DataError(
        "Training gave a number that is not finite.",
        reason=ErrorReason.MALFORMED,
        next_step="Lower the job's learning rates, or look for broken rows in the site's data.",
    )
