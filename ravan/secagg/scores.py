"""How much a head promises at a site, as a fixed-point number that is only ever seen summed over the site's cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ravan.errors import DataError, ErrorReason
from ravan.ids import BlockId
from ravan.secagg.refusals import malformed
from ravan.secagg.statistics import limb_bits


def score_limit(ring_bits: int) -> int:
    """Return the integer that a score of 1 becomes: the largest limb, so that the sums of 256 members fit."""
    return (1 << limb_bits(ring_bits)) - 1


def encode_scores(scores: Mapping[BlockId, float], heads: Sequence[BlockId], ring_bits: int) -> tuple[int, ...]:
    """Return the scores of `heads` in steps of 1 / score_limit, each rounded to the nearest.

    Raise ProtocolError (MALFORMED) when a head has no score, DataError for a score that is not from 0 to 1.
    """
    missing = next((head for head in heads if head not in scores), None)
    if missing is not None:
        raise malformed(f"The update has no score of {missing}.")
    strange = next((head for head in heads if not 0 <= scores[head] <= 1), None)
    if strange is not None:
        raise DataError(
            f"The score of {strange} is not from 0 to 1 and is not sent.",
            reason=ErrorReason.MALFORMED,
            next_step="Look for broken rows in the site's data, or lower the job's learning rates.",
        )
    return tuple(round(scores[head] * score_limit(ring_bits)) for head in heads)
