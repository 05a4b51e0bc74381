"""Clips: where they start, when they grow, and that they are bounded."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_plans import plan_of

from coordinator.allocation.clips import CLIP_CEILING, adapt_clips, initial_clips, specify_blocks
from ravan.ids import BlockId, BlockKind

HEAD = BlockId(BlockKind.HEAD, 0, 0, 0)
OTHER = BlockId(BlockKind.HEAD, 0, 0, 1)


def test_block_list_is_dense_first_then_heads_with_their_sizes() -> None:
    plan = plan_of(2, heads=2, rank=3)
    specs = specify_blocks(plan, initial_clips(plan, 8.0))
    assert [spec.block_id for spec in specs] == [*plan.dense_ids(), *plan.head_ids()]
    assert [spec.length for spec in specs] == [36, 3, 9, 9, 9, 9]
    assert {spec.clip for spec in specs} == {8.0}


@pytest.mark.parametrize(("flagged", "cohort", "factor"), [(0, 5, 1.0), (1, 10, 1.0), (1, 9, 1.5), (5, 5, 1.5)])
def test_a_clip_grows_when_more_than_a_tenth_was_clipped(flagged: int, cohort: int, factor: float) -> None:
    assert adapt_clips({HEAD: 8.0}, {HEAD: flagged}, {HEAD: cohort}) == {HEAD: 8.0 * factor}


def test_a_withheld_block_keeps_its_clip() -> None:
    assert adapt_clips({HEAD: 8.0, OTHER: 2.0}, {OTHER: 3}, {OTHER: 3}) == {HEAD: 8.0, OTHER: 3.0}


@given(st.floats(1e-3, 1e6), st.lists(st.integers(0, 5), max_size=60))
def test_clips_stay_finite_and_never_shrink(clip: float, flags: list[int]) -> None:
    clips = {HEAD: clip}
    for flagged in flags:
        before = clips[HEAD]
        clips = adapt_clips(clips, {HEAD: flagged}, {HEAD: 5})
        assert clips[HEAD] >= before
    assert math.isfinite(clips[HEAD])
    assert clips[HEAD] <= max(clip, CLIP_CEILING)
