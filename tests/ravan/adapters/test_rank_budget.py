"""Head sizes for a LoRA budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravan.adapters.budget import largest_rank, rank_for_budget


@pytest.mark.parametrize(
    ("out_features", "in_features", "lora_rank", "heads", "rank"),
    # The paper's table of ranks has 4 x 110 and 4 x 156 at 768 x 768 against LoRA's 32 and 64.
    [(768, 768, 32, 4, 110), (768, 768, 64, 4, 156), (384, 384, 8, 4, 39), (512, 2048, 8, 4, 71), (4, 4, 1, 100, 1)],
)
def test_rank_by_hand(out_features: int, in_features: int, lora_rank: int, heads: int, rank: int) -> None:
    assert rank_for_budget(out_features, in_features, lora_rank, heads) == rank


@given(st.integers(8, 4096), st.integers(8, 4096), st.integers(1, 64), st.integers(1, 16))
def test_rank_is_the_largest_within_budget(out_features: int, in_features: int, lora_rank: int, heads: int) -> None:
    rank = rank_for_budget(out_features, in_features, lora_rank, heads)
    budget = (out_features + in_features) * lora_rank
    assert heads * (rank + 1) ** 2 > budget
    assert heads * rank**2 <= budget or rank == 1


@given(st.integers(1, 4096), st.integers(1, 4096), st.integers(1, 64))
def test_largest_rank_just_fits(out_features: int, in_features: int, heads: int) -> None:
    rank = largest_rank(out_features, in_features, heads)
    assert heads * rank <= min(out_features, in_features) < heads * (rank + 1)
