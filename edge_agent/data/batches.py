"""Batches by steps: a shuffle that starts anew whenever all examples were dealt, for as long as asked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from edge_agent.data.site_data import TokenisedTexts


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """One mini-batch; int64."""

    input_ids: torch.Tensor
    """(batch, tokens)."""
    attention_mask: torch.Tensor
    """(batch, tokens)."""
    labels: torch.Tensor
    """(batch,)."""
    rows: torch.Tensor
    """(batch,): which examples of the site's data these are."""


def local_seed() -> int:
    """Return a seed of the operating system: the order of examples is the site's own affair."""
    return int.from_bytes(os.urandom(16), "big")


def deal_batches(data: TokenisedTexts, batch_size: int, pad_id: int, seed: int, *, length: int = 0) -> Iterator[Batch]:
    """Yield batches of exactly `batch_size` without end, of `length` tokens at least; small files repeat within one."""
    order = _deal_indices(len(data), np.random.default_rng(seed))
    while True:
        yield gather_batch(data, [next(order) for _ in range(batch_size)], pad_id, length=length)


def gather_batch(data: TokenisedTexts, rows: Sequence[int], pad_id: int, *, length: int = 0) -> Batch:
    """Return the chosen examples, padded to the longest of them and to `length` at least."""
    texts = [data.text(row) for row in rows]
    longest = max(length, *(len(text) for text in texts))
    ids = np.full((len(rows), longest), pad_id, np.int64)
    mask = np.zeros_like(ids)
    for position, text in enumerate(texts):
        ids[position, : len(text)] = text
        mask[position, : len(text)] = 1
    labels = data.label_ids[list(rows)]
    return Batch(
        input_ids=torch.from_numpy(ids),
        attention_mask=torch.from_numpy(mask),
        labels=torch.from_numpy(labels),
        rows=torch.tensor(list(rows)),
    )


def worst_case_batch(batch_size: int, length: int, vocabulary: int, classes: int, seed: int = 0) -> Batch:
    """Return a batch of random tokens in which every text has `length` tokens: the dearest that can come."""
    generator = np.random.default_rng(seed)
    ids: NDArray[np.int64] = generator.integers(0, vocabulary, (batch_size, length))
    return Batch(
        input_ids=torch.from_numpy(ids),
        attention_mask=torch.ones(batch_size, length, dtype=torch.int64),
        labels=torch.from_numpy(generator.integers(0, classes, batch_size)),
        rows=torch.arange(batch_size),
    )


def _deal_indices(count: int, generator: np.random.Generator) -> Iterator[int]:
    while True:
        yield from generator.permutation(count).tolist()
