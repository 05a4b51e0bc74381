"""How far a block may move in a round: its L2 clip, adapted from what the sites' summed flags tell.

A site scales a delta down to the clip before it is quantised and sets the block's flag. Only the sum of
the flags is ever seen. The quantisation step is clip / Q, and Q is in the tens of thousands and more, so
a clip that is too wide costs little precision and one that is too narrow costs learning: clips only grow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from ravan.adapters.state import block_shapes
from ravan.ids import BlockId
from ravan.manifest.assignment import BlockSpec
from ravan.manifest.plan import JobPlan

CLIPPED_SHARE: Final = 0.1
"""Share of a cohort that may be clipped before the clip grows."""

GROWTH: Final = 1.5
"""Factor by which it grows."""

CLIP_CEILING: Final = 1024.0
"""Largest clip that adaptation reaches: beyond it the model is diverging, and clipping is what keeps it finite."""


def initial_clips(plan: JobPlan, clip: float) -> dict[BlockId, float]:
    """Return the same clip for every block of the plan."""
    return dict.fromkeys(block_shapes(plan), clip)


def adapt_clips(
    clips: Mapping[BlockId, float], flags: Mapping[BlockId, int], cohorts: Mapping[BlockId, int]
) -> dict[BlockId, float]:
    """Return the next round's clips: 1.5 times as wide where more than a tenth of the cohort was clipped.

    `flags` holds the summed clip flags and `cohorts` the survivors of each released block; a block without
    them (withheld, or trained by nobody) keeps its clip.
    """
    return {block: _next(clip, flags.get(block, 0), cohorts.get(block, 0)) for block, clip in clips.items()}


def specify_blocks(plan: JobPlan, clips: Mapping[BlockId, float]) -> tuple[BlockSpec, ...]:
    """Return the assignment's block list: dense blocks, then heads, each by ascending id."""
    return tuple(
        BlockSpec(block_id=block, length=math.prod(shape), clip=clips[block])
        for block, shape in block_shapes(plan).items()
    )


def _next(clip: float, flagged: int, cohort: int) -> float:
    if cohort == 0 or flagged <= CLIPPED_SHARE * cohort:
        return clip
    return max(clip, min(clip * GROWTH, CLIP_CEILING))
