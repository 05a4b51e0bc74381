"""What a site may tell about its training: three sums that travel only as masked limbs of bundle 0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ravan.errors import DataError, ErrorReason

LIMB_BITS: Final = 16
"""Bits of one limb: sums of 256 members still fit 24 bits."""

_COUNT_LIMBS: Final = 2
_LOSS_LIMBS: Final = 4
_LOSS_FRACTION_BITS: Final = 20

STATISTICS_LIMBS: Final = _COUNT_LIMBS + _LOSS_LIMBS + _COUNT_LIMBS
"""Ring elements that the statistics take in bundle 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStatistics:
    """Training figures of one site, or of all survivors together."""

    examples: int
    """Examples seen, below 2^32 for one site."""
    loss_sum: float
    """Sum of the losses of these examples; carried in multiples of 2^-20, below 2^44 for one site."""
    correct: int
    """Examples that were classified rightly, below 2^32 for one site."""


def encode_statistics(statistics: LocalStatistics) -> tuple[int, ...]:
    """Return the limbs, least significant first; raise DataError for a figure that cannot be carried."""
    if not math.isfinite(statistics.loss_sum):
        raise _not_carried("the training loss is not a finite number")
    loss = round(statistics.loss_sum * (1 << _LOSS_FRACTION_BITS))
    return (
        *_split(statistics.examples, _COUNT_LIMBS, "number of examples"),
        *_split(loss, _LOSS_LIMBS, "training loss"),
        *_split(statistics.correct, _COUNT_LIMBS, "number of right answers"),
    )


def decode_statistics(limb_sums: Sequence[int]) -> LocalStatistics:
    """Return the totals from the sums of the limbs over all survivors."""
    examples = _join(limb_sums[:_COUNT_LIMBS])
    loss = _join(limb_sums[_COUNT_LIMBS : _COUNT_LIMBS + _LOSS_LIMBS])
    correct = _join(limb_sums[_COUNT_LIMBS + _LOSS_LIMBS :])
    return LocalStatistics(examples=examples, loss_sum=loss / (1 << _LOSS_FRACTION_BITS), correct=correct)


def _split(value: int, limbs: int, what: str) -> list[int]:
    if not 0 <= value < 1 << LIMB_BITS * limbs:
        raise _not_carried(f"the {what} is out of range")
    return [value >> LIMB_BITS * i & (1 << LIMB_BITS) - 1 for i in range(limbs)]


def _join(limbs: Sequence[int]) -> int:
    return sum(limb << LIMB_BITS * i for i, limb in enumerate(limbs))


def _not_carried(fault: str) -> DataError:
    return DataError(
        f"The training statistics cannot be sent: {fault}.",
        reason=ErrorReason.MALFORMED,
        next_step="Lower the job's learning rate, or look for broken rows in the site's data.",
    )
