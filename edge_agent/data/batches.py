"""Batches by steps: a shuffle that starts anew whenever all examples were dealt, for as long as asked."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from ravan.tasks.batch import Batch
from ravan.tasks.task_model import EncodedExamples


def local_seed() -> int:
    """Return a seed of the operating system: the order of examples is the site's own affair."""
    return int.from_bytes(os.urandom(16), "big")


def deal_batches(data: EncodedExamples, batch_size: int, seed: int, *, length: int = 0) -> Iterator[Batch]:
    """Yield batches of exactly `batch_size` without end, of `length` tokens at least; small files repeat within one."""
    order = _deal_indices(len(data), np.random.default_rng(seed))
    while True:
        yield data.gather([next(order) for _ in range(batch_size)], length=length)


def _deal_indices(count: int, generator: np.random.Generator) -> Iterator[int]:
    while True:
        yield from generator.permutation(count).tolist()
