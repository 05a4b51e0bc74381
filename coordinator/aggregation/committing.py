"""The next model version: the last one plus the mean deltas of the released blocks."""

from __future__ import annotations

import numpy as np

from ravan.adapters.state import apply_mean, decode_state, encode_state
from ravan.errors import ErrorReason, ModelError
from ravan.manifest.plan import JobPlan
from ravan.secagg.combine import RoundSum


def advance_state(plan: JobPlan, state: bytes, total: RoundSum) -> bytes:
    """Return the next version's bytes; blocks that were withheld or trained by nobody keep their value.

    Raise ModelError MODEL_INVALID when a number of the new version is not finite, and TransferError MALFORMED
    when `state` is no version of this plan.
    """
    blocks = decode_state(plan, state)
    means = {block: summed.mean.reshape(blocks[block].shape) for block, summed in total.blocks.items()}
    with np.errstate(over="ignore"):
        advanced = apply_mean(blocks, means)
    broken = sorted(block for block, array in advanced.items() if not np.isfinite(array).all())
    if broken:
        raise ModelError(
            f"The round's result is discarded: {len(broken)} of its blocks are not finite, {broken[0]} first.",
            reason=ErrorReason.MODEL_INVALID,
            next_step="Submit the job again with lower learning rates.",
        )
    return encode_state(plan, advanced)
