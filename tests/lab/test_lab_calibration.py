"""Which loss a client trains by, as the run says; the loss itself is the product's and tested there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny_lab import bench_of, cell_of, cohort_of, tiny_task

from lab.federation.partition import Split
from lab.simulation import play_cell

SKEWED: dict[str, Any] = {"split": Split.DIRICHLET, "clients": 4, "per_round": 4, "alpha": 1.0}


def test_a_client_is_calibrated_by_its_own_labels_and_those_to_expect() -> None:
    lab = tiny_task()
    for kind, expected in (
        ("equal", [1 / 3] * 3),
        ("held_out", [5 / 15] * 3),
    ):  # four texts of each class, and one more
        bench = bench_of("ravan", federation=SKEWED, expected_labels=kind)
        uneven = 0
        for client in cohort_of(bench):
            counts = np.asarray([(lab.labels[client.shard.rows] == label).sum() for label in range(3)])
            uneven += len(set(counts.tolist())) > 1
            shift = np.log(np.maximum(counts, 1e-99) / counts.sum() / expected)
            batch = client.shard.gather(range(4))
            logits = torch.from_numpy(np.random.default_rng(client.index).standard_normal((4, 3))).float()
            found = bench.task_of(lab.task, client).losses(logits, batch)
            assert torch.allclose(found, lab.task.losses(logits + torch.from_numpy(shift).float(), batch), atol=1e-6)
        assert uneven


def test_a_run_that_says_nothing_trains_by_the_plain_loss() -> None:
    bench, lab = bench_of("ravan", federation=SKEWED), tiny_task()
    assert all(bench.task_of(lab.task, client) is lab.task for client in cohort_of(bench))


@pytest.mark.parametrize("name", ["ravan", "moving_ravan", "fedit", "fed_sb", "full", "alternating"])
def test_every_method_trains_by_it(name: str) -> None:
    plain, calibrated = (
        play_cell(cell_of(name, federation=SKEWED, expected_labels=kind), tiny_task()) for kind in ("local", "equal")
    )
    assert plain.loss != calibrated.loss
    assert plain.uploaded == calibrated.uploaded


def test_a_shard_has_the_classes_of_its_rows() -> None:
    lab, rows = tiny_task(), np.asarray([5, 3, 8])
    found = lab.shard(rows).label_ids
    assert found is not None
    assert found.tolist() == lab.labels[rows].tolist()
