"""Kept outputs of lower layers in the tasks beside texts: the same bits, and the layers below run once an example."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from job_plans import plan_of
from task_settings import settings_of
from tiny_task_models import DINOV2_SIDE, WINDOW, write_tiny_dinov2, write_tiny_llama, write_tiny_patchtst
from torch import nn

from edge_agent.data.batches import deal_batches
from edge_agent.training.lower_part import LowerPart, layers_below
from ravan.adapters.model import find_linears
from ravan.data.images import ImageExamples
from ravan.data.series import SeriesExamples
from ravan.data.texts import AnswerExamples
from ravan.manifest.plan import Task
from ravan.tasks.loading import load_task_model
from ravan.tasks.task_model import EncodedExamples, TaskModel

COUNT, BATCH = 10, 4


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On some processors two threads compute a text by its place in the batch, and nothing would be kept."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def images(task: TaskModel[Any]) -> EncodedExamples:
    pixels = np.random.default_rng(1).integers(0, 256, (COUNT, DINOV2_SIDE, DINOV2_SIDE, 3), np.uint8)
    return task.encode(ImageExamples(pixels=pixels, label_ids=tuple(i % 3 for i in range(COUNT)), left_out=0))


def windows(task: TaskModel[Any]) -> EncodedExamples:
    values = np.random.default_rng(2).normal(size=(COUNT + WINDOW - 1, 2)).astype(np.float32)
    labels = tuple(i % 3 for i in range(COUNT))
    starts = np.arange(COUNT, dtype=np.int64)
    return task.encode(SeriesExamples(values=values, starts=starts, window=WINDOW, label_ids=labels, left_out=0))


def answers(task: TaskModel[Any]) -> EncodedExamples:
    texts = tuple(["hose burst", "pump leak not", "door"][i % 3] for i in range(COUNT))
    spoken = tuple(["pump", "cab door"][i % 2] for i in range(COUNT))
    return task.encode(AnswerExamples(texts=texts, answers=spoken, left_out=0))


@pytest.mark.parametrize(
    ("task", "write", "encode", "kept"),
    [
        (Task.IMAGE_CLASSIFICATION, write_tiny_dinov2, images, COUNT),
        (Task.CAUSAL_LM, write_tiny_llama, answers, COUNT),
        # Its layers give more than their outputs.
        (Task.SERIES_CLASSIFICATION, write_tiny_patchtst, windows, 0),
    ],
)
def test_kept_outputs_give_the_same_bits(
    tmp_path: Path,
    task: Task,
    write: Callable[[Path], Path],
    encode: Callable[[TaskModel[Any]], EncodedExamples],
    kept: int,
) -> None:
    built = load_task_model(write(tmp_path / "model"), settings_of(task))
    built.model.requires_grad_(False)
    (*_, (name, out, inputs)) = find_linears(built.model, ("q_proj",))
    plan = plan_of(1, width=16)
    plan = replace(plan, matrices=(replace(plan.matrices[0], name=name, out_features=out, in_features=inputs),))
    data = encode(built)
    layers = layers_below(built.model, plan, frozenset(plan.head_ids()))
    assert len(layers) == 1
    computed: list[int] = []
    inside = next(module for module in layers[0].modules() if isinstance(module, nn.Linear))
    inside.register_forward_pre_hook(lambda *_: computed.append(1))
    lower = LowerPart(built, layers, len(data), 1 << 30)
    for batch in islice(deal_batches(data, BATCH, seed=3, length=int(data.lengths.max())), 12):
        found = lower.logits(batch)
        assert torch.equal(found, built.logits(batch))
    assert lower.kept == kept
    # Each batch was computed once without the cache, by this test.
    assert (len(computed) - 12 < 8) == (kept > 0)
