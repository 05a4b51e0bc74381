"""Batches: all examples before any comes again, padded to the longest, without end."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from bare_tasks import token_texts
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.data.batches import deal_batches
from ravan.tasks.texts import TokenisedTexts, noisy_texts

PAD = 99


def texts(lengths: list[int]) -> TokenisedTexts:
    """Text i is i + 1 repeated; its label is i."""
    tokens = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    return token_texts(tokens, np.array(lengths), np.arange(len(lengths)), PAD)


@given(st.integers(1, 12), st.integers(1, 9), st.integers(1, 10), st.integers(0, 1 << 64))
def test_each_example_comes_equally_often(count: int, batch_size: int, batches: int, seed: int) -> None:
    dealt = Counter[int]()
    for batch in islice(deal_batches(texts([1] * count), batch_size, seed), batches):
        assert len(batch.labels) == batch_size
        dealt.update(batch.labels.tolist())
    times = [dealt[i] for i in range(count)]
    assert max(times) - min(times) <= 1


def test_the_order_is_the_seed_s() -> None:
    def order(seed: int) -> list[int]:
        return next(deal_batches(texts([1] * 50), 50, seed)).labels.tolist()

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert sorted(order(1)) == list(range(50)) != order(1)


@given(st.integers(1, 12), st.integers(1, 9), st.integers(0, 12), st.integers(0, 1 << 64))
def test_dealing_goes_on_where_it_was_broken_off(count: int, batch_size: int, first: int, seed: int) -> None:
    whole = islice(deal_batches(texts([1] * count), batch_size, seed), first, first + 3)
    rest = islice(deal_batches(texts([1] * count), batch_size, seed, first=first), 3)
    assert [batch.labels.tolist() for batch in rest] == [batch.labels.tolist() for batch in whole]


def test_a_batch_is_padded_to_its_longest_text() -> None:
    batch = texts([2, 4, 1, 9]).gather([2, 1, 0])
    assert batch.inputs["input_ids"].tolist() == [[3, PAD, PAD, PAD], [2, 2, 2, 2], [1, 1, PAD, PAD]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch.labels.tolist() == [2, 1, 0]


def test_a_batch_is_padded_to_a_length_where_that_is_longer() -> None:
    two = texts([2, 1])
    assert two.gather([1, 0], length=3).inputs["input_ids"].tolist() == [[2, PAD, PAD], [1, 1, PAD]]
    assert two.gather([1, 0], length=1).inputs["input_ids"].tolist() == [[2, PAD], [1, 1]]
    assert {batch.shape for batch in islice(deal_batches(texts([1, 2, 3]), 2, 0, length=5), 4)} == {(5,)}


def test_a_batch_tells_whether_it_is_padded_and_turns_round() -> None:
    batch = texts([2, 1]).gather([0, 1])
    assert batch.is_padded
    assert not texts([2, 2]).gather([0, 1]).is_padded
    turned = batch.flip()
    assert turned.inputs["input_ids"].tolist() == [[2, PAD], [1, 1]]
    assert (turned.labels.tolist(), turned.rows.tolist(), len(turned)) == ([1, 0], [1, 0], 2)


def test_a_batch_says_which_examples_it_holds() -> None:
    batch = texts([1] * 5).gather([3, 0, 3])
    assert batch.rows.tolist() == batch.labels.tolist() == [3, 0, 3]


def test_the_lengths_are_known() -> None:
    assert texts([2, 9, 4]).lengths.tolist() == [2, 9, 4]


@pytest.mark.parametrize(("size", "length"), [(1, 1), (3, 7)])
def test_the_worst_case_has_no_padding(size: int, length: int) -> None:
    batch = noisy_texts(size, length, vocabulary=20, classes=3)
    assert batch.inputs["input_ids"].shape == batch.inputs["attention_mask"].shape == (size, length)
    assert bool(batch.inputs["attention_mask"].all())
    assert int(batch.inputs["input_ids"].min()) >= 0
    assert int(batch.inputs["input_ids"].max()) < 20
    assert set(batch.labels.tolist()) <= {0, 1, 2}
