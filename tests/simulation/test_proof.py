"""The proof can fail: an update that is missing, doubled, or trained for another version shows."""

from __future__ import annotations

from collections import Counter

import numpy as np
from job_plans import plan_of

from ravan.adapters.state import ModelState, apply_mean, block_shapes, initial_state
from ravan.ids import BlockKind, Digest
from simulation.proof import CountedRound, read_counts
from simulation.update import amount_for, make_up_update, times_counted

PLAN = plan_of(2, heads=2, rank=3)
HEADS = [block for block in block_shapes(PLAN) if block.kind is BlockKind.HEAD]
VERSION, OTHER = Digest(bytes([3]) + bytes(31)), Digest(bytes([4]) + bytes(31))
SITES = 5


def versions(updates: Counter[tuple[int, Digest]]) -> tuple[ModelState, ModelState]:
    """Return a version and what follows from adding these (site number, version) so often, over `SITES`."""
    before = initial_state(PLAN)
    total = {block: np.zeros(shape) for block, shape in block_shapes(PLAN).items()}
    for (number, version), times in updates.items():
        for block, delta in make_up_update(PLAN, total, version, number).deltas.items():
            total[block] += times * delta.astype(np.float64)
    return before, apply_mean(before, {block: summed / SITES for block, summed in total.items()})


def judge(updates: Counter[tuple[int, Digest]]) -> CountedRound:
    before, after = versions(updates)
    return read_counts(7, times_counted(before, after, VERSION, dict.fromkeys(HEADS, SITES)))


def once(*numbers: int) -> Counter[tuple[int, Digest]]:
    return Counter({(number, VERSION): 1 for number in numbers})


def test_updates_that_are_in_once_are_counted_and_nothing_else_is_said() -> None:
    assert judge(once(0, 2, 3)) == CountedRound(
        number=7, counted=frozenset({"sim-0000", "sim-0002", "sim-0003"}), faults=()
    )


def test_an_update_that_is_in_twice_shows() -> None:
    found = judge(once(0, 1) + once(1))
    assert found.counted == {"sim-0000"}
    assert [fault.split(" was ")[0] for fault in found.faults] == ["Round 7: sim-0001"]


def test_an_update_that_was_trained_for_another_version_shows() -> None:
    assert amount_for(VERSION) != amount_for(OTHER)
    found = judge(once(0) + Counter({(4, OTHER): 1}))
    assert found.counted == {"sim-0000"}
    assert [fault.split(" was ")[0] for fault in found.faults] == ["Round 7: sim-0004"]


def test_an_update_that_is_in_one_head_only_shows() -> None:
    before, after = versions(once(0, 1))
    broken = {block: array.copy() for block, array in after.items()}
    broken[HEADS[0]].ravel()[1] = before[HEADS[0]].ravel()[1]
    found = read_counts(7, times_counted(before, broken, VERSION, dict.fromkeys(HEADS, SITES)))
    assert found.counted == {"sim-0000"}
    assert len(found.faults) == 1
