"""Batches by steps: a shuffle that starts anew whenever all examples were dealt, for as long as asked."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from ravan.tasks.batch import Batch
from ravan.tasks.task_model import EncodedExamples


def deal_batches(
    data: EncodedExamples, batch_size: int, seed: int, *, length: int = 0, first: int = 0
) -> Iterator[Batch]:
    """Yield batches of exactly `batch_size` without end, of `length` tokens at least; small files repeat within one.

    `first` leaves out so many, which were dealt before.
    """
    order = islice(_deal_indices(len(data), np.random.default_rng(seed)), first * batch_size, None)
    while True:
        yield data.gather([next(order) for _ in range(batch_size)], length=length)


def _deal_indices(count: int, generator: np.random.Generator) -> Iterator[int]:
    while True:
        yield from generator.permutation(count).tolist()
