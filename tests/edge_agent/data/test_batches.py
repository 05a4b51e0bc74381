"""Batches: all examples before any comes again, padded to the longest, without end."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.data.batches import deal_batches, gather_batch, local_seed, worst_case_batch
from edge_agent.data.site_data import TokenisedTexts

PAD = 99


def texts(lengths: list[int]) -> TokenisedTexts:
    """Text i is i + 1 repeated; its label is i."""
    return TokenisedTexts(
        tokens=np.repeat(np.arange(1, len(lengths) + 1), lengths).astype(np.int32),
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        label_ids=np.arange(len(lengths)),
    )


@given(st.integers(1, 12), st.integers(1, 9), st.integers(1, 10), st.integers(0, 1 << 64))
def test_each_example_comes_equally_often(count: int, batch_size: int, batches: int, seed: int) -> None:
    dealt = Counter[int]()
    for batch in islice(deal_batches(texts([1] * count), batch_size, PAD, seed), batches):
        assert len(batch.labels) == batch_size
        dealt.update(batch.labels.tolist())
    times = [dealt[i] for i in range(count)]
    assert max(times) - min(times) <= 1


def test_the_order_is_the_seed_s() -> None:
    def order(seed: int) -> list[int]:
        return next(deal_batches(texts([1] * 50), 50, PAD, seed)).labels.tolist()

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert sorted(order(1)) == list(range(50)) != order(1)


def test_seeds_come_from_the_system() -> None:
    assert len({local_seed() for _ in range(20)}) == 20


def test_a_batch_is_padded_to_its_longest_text() -> None:
    batch = gather_batch(texts([2, 4, 1, 9]), [2, 1, 0], PAD)
    assert batch.input_ids.tolist() == [[3, PAD, PAD, PAD], [2, 2, 2, 2], [1, 1, PAD, PAD]]
    assert batch.attention_mask.tolist() == [[1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch.labels.tolist() == [2, 1, 0]


def test_a_batch_is_padded_to_a_length_where_that_is_longer() -> None:
    assert gather_batch(texts([2, 1]), [1, 0], PAD, length=3).input_ids.tolist() == [[2, PAD, PAD], [1, 1, PAD]]
    assert gather_batch(texts([2, 1]), [1, 0], PAD, length=1).input_ids.tolist() == [[2, PAD], [1, 1]]
    assert {b.input_ids.shape for b in islice(deal_batches(texts([1, 2, 3]), 2, PAD, 0, length=5), 4)} == {(2, 5)}


def test_a_batch_says_which_examples_it_holds() -> None:
    batch = gather_batch(texts([1] * 5), [3, 0, 3], PAD)
    assert batch.rows.tolist() == batch.labels.tolist() == [3, 0, 3]


def test_the_lengths_are_known() -> None:
    assert texts([2, 9, 4]).lengths.tolist() == [2, 9, 4]


@pytest.mark.parametrize(("size", "length"), [(1, 1), (3, 7)])
def test_the_worst_case_has_no_padding(size: int, length: int) -> None:
    batch = worst_case_batch(size, length, vocabulary=20, classes=3)
    assert batch.input_ids.shape == batch.attention_mask.shape == (size, length)
    assert bool(batch.attention_mask.all())
    assert int(batch.input_ids.min()) >= 0
    assert int(batch.input_ids.max()) < 20
    assert set(batch.labels.tolist()) <= {0, 1, 2}
