"""A client's loss with its own label frequencies: against the definition, and that nothing else of the task changes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from tiny_lab import bench_of, cell_of, cohort_of, method_of, tiny_task

from lab.federation.partition import Split
from lab.simulation import play_cell
from lab.tasks.calibrated import CalibratedTask

SKEWED: dict[str, Any] = {"split": Split.DIRICHLET, "clients": 4, "per_round": 4, "alpha": 1.0}


def softmax_losses(logits: list[list[float]], labels: list[int], priors: list[float]) -> list[float]:
    """Return -log of p_y e^z_y / sum_c p_c e^z_c, number by number."""
    losses = []
    for row, label in zip(logits, labels, strict=True):
        weighted = [prior * math.exp(value) for prior, value in zip(priors, row, strict=True)]
        losses.append(-math.log(weighted[label] / sum(weighted)))
    return losses


@pytest.mark.parametrize("calibration", ["local", "relative"])
def test_losses_weigh_each_class_by_how_frequent_it_is_at_the_client(calibration: str) -> None:
    bench = bench_of("ravan", federation=SKEWED, calibration=calibration)
    lab = tiny_task()
    uneven = 0
    for client in cohort_of(bench):
        counts = [int((lab.labels[client.shard.rows] == label).sum()) for label in range(3)]
        uneven += len(set(counts)) > 1
        priors = [(count + 1) / (sum(counts) + 3) for count in counts]
        if calibration == "relative":  # 24 texts of each class in the pool
            priors = [prior * 3 for prior in priors]
        batch = client.shard.gather(range(4))
        logits = torch.from_numpy(np.random.default_rng(client.index).standard_normal((4, 3))).float()
        found = bench.task_of(lab.task, client).losses(logits, batch).tolist()
        assert found == pytest.approx(softmax_losses(logits.tolist(), batch.labels.tolist(), priors), rel=1e-5)
    assert uneven


def test_nothing_but_the_loss_is_another() -> None:
    bench, lab = bench_of("ravan", federation=SKEWED, calibration="local"), tiny_task()
    client = cohort_of(bench)[0]
    calibrated, batch = bench.task_of(lab.task, client), client.shard.gather(range(4))
    assert isinstance(calibrated, CalibratedTask)
    with torch.inference_mode():
        logits = lab.task.logits(batch)
        assert torch.equal(calibrated.logits(batch), logits)
    assert calibrated.count_correct(logits, batch) == lab.task.count_correct(logits, batch)
    assert bench_of("ravan").task_of(lab.task, client) is lab.task


@pytest.mark.parametrize("name", ["ravan", "fedit", "fed_sb", "full", "alternating"])
def test_every_method_trains_by_it(name: str) -> None:
    plain, calibrated = (
        play_cell(cell_of(name, federation=SKEWED, calibration=kind), tiny_task()) for kind in ("none", "local")
    )
    assert plain.loss != calibrated.loss
    assert plain.uploaded == calibrated.uploaded


def test_equal_frequencies_change_nothing_but_roundings() -> None:
    """The same shift on every class leaves a softmax as it is."""
    method = method_of("fedit", calibration="local", federation={"split": Split.POOLED, "clients": 1, "per_round": 1})
    client = cohort_of(method.bench)[0]
    batch = client.shard.gather(range(4))
    logits = torch.arange(12.0).reshape(4, 3)
    calibrated = method.bench.task_of(method.task, client).losses(logits, batch)
    assert torch.allclose(calibrated, tiny_task().task.losses(logits, batch), atol=1e-6)
