"""Updates that reveal themselves: site number i moves slot i of every head, by an amount that names its version.

A slot of a head's mean then shows how often its site was counted: once is `amount / count`, twice the double, and
an update that was trained for another version has another amount. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from edge_agent.training.outcome import TrainingCost, TrainingOutcome
from ravan.adapters.state import FloatArray, ModelState, block_shapes
from ravan.ids import BlockId, BlockKind, Digest
from ravan.manifest.plan import JobPlan
from ravan.secagg.statistics import LocalStatistics

_AMOUNTS = 16


def amount_for(version: Digest) -> float:
    """Return what every site adds to its slot when it trains from this version: 1 to below 2."""
    return 1.0 + (version[0] % _AMOUNTS) / _AMOUNTS


def make_up_update(plan: JobPlan, trained: Iterable[BlockId], version: Digest, number: int) -> TrainingOutcome:
    """Return the update of site `number`; raise IndexError when a head has no slot for it."""
    shapes = block_shapes(plan)
    return TrainingOutcome(
        deltas={block: _delta(shapes[block], block, version, number) for block in trained},
        statistics=LocalStatistics(examples=1, loss_sum=0.0, correct=1),
        held_examples=1,
        cost=TrainingCost(extra_peak_bytes=1, step_cpu_s=0.0),
    )


def _delta(shape: tuple[int, ...], block: BlockId, version: Digest, number: int) -> FloatArray:
    delta = np.zeros(shape, np.float32)
    if block.kind is BlockKind.HEAD:
        delta.ravel()[number] = amount_for(version)
    return delta


def times_counted(
    before: ModelState, after: ModelState, version: Digest, cohorts: Mapping[BlockId, int]
) -> Mapping[BlockId, FloatArray]:
    """Return for each head how often each site's update is in it, by site number.

    `version` is the digest of `before`, `cohorts` says how many updates each head's mean was taken over.
    """
    amount = amount_for(version)
    return {head: (after[head] - before[head]).ravel() * (count / amount) for head, count in cohorts.items() if count}
