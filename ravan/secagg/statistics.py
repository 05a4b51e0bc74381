"""What a site may tell about its training: three sums that travel only as masked limbs of bundle 0."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ravan.errors import DataError, ErrorReason

_COUNT_BITS: Final = 32
_LOSS_BITS: Final = 64
_LOSS_FRACTION_BITS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStatistics:
    """Training figures of one site, or of all survivors together."""

    examples: int
    """Examples seen, below 2^32 for one site."""
    loss_sum: float
    """Sum of the losses of these examples; carried in multiples of 2^-20, below 2^44 for one site."""
    correct: int
    """Examples that were classified rightly, below 2^32 for one site."""


NOTHING: Final = LocalStatistics(examples=0, loss_sum=0.0, correct=0)


def add_statistics(parts: Iterable[LocalStatistics]) -> LocalStatistics:
    """Return the totals of several groups."""
    everything = tuple(parts)
    return LocalStatistics(
        examples=sum(part.examples for part in everything),
        loss_sum=sum(part.loss_sum for part in everything),
        correct=sum(part.correct for part in everything),
    )


def limb_bits(ring_bits: int) -> int:
    """Return the bits of one limb: 8 below the ring's width, so that the sums of 256 members fit; at most 16."""
    return min(ring_bits - 8, 16)


def statistics_limbs(ring_bits: int) -> int:
    """Return the ring elements that the statistics take in bundle 0."""
    return (_COUNT_BITS + _LOSS_BITS + _COUNT_BITS) // limb_bits(ring_bits)


def encode_statistics(statistics: LocalStatistics, ring_bits: int) -> tuple[int, ...]:
    """Return the limbs, least significant first; raise DataError for a figure that cannot be carried."""
    width = limb_bits(ring_bits)
    if not math.isfinite(statistics.loss_sum):
        raise _not_carried("the training loss is not a finite number")
    loss = round(statistics.loss_sum * (1 << _LOSS_FRACTION_BITS))
    return (
        *_split(statistics.examples, _COUNT_BITS, width, "number of examples"),
        *_split(loss, _LOSS_BITS, width, "training loss"),
        *_split(statistics.correct, _COUNT_BITS, width, "number of right answers"),
    )


def decode_statistics(limb_sums: Sequence[int], ring_bits: int) -> LocalStatistics:
    """Return the totals from the sums of the limbs over all survivors."""
    width = limb_bits(ring_bits)
    first, second = _COUNT_BITS // width, (_COUNT_BITS + _LOSS_BITS) // width
    examples = _join(limb_sums[:first], width)
    loss = _join(limb_sums[first:second], width)
    correct = _join(limb_sums[second:], width)
    return LocalStatistics(examples=examples, loss_sum=loss / (1 << _LOSS_FRACTION_BITS), correct=correct)


def _split(value: int, bits: int, width: int, what: str) -> list[int]:
    if not 0 <= value < 1 << bits:
        raise _not_carried(f"the {what} is out of range")
    return [value >> shift & (1 << width) - 1 for shift in range(0, bits, width)]


def _join(limbs: Sequence[int], width: int) -> int:
    return sum(limb << width * i for i, limb in enumerate(limbs))


def _not_carried(fault: str) -> DataError:
    return DataError(
        f"The training statistics cannot be sent: {fault}.",
        reason=ErrorReason.MALFORMED,
        next_step="Lower the job's learning rate, or look for broken rows in the site's data.",
    )
