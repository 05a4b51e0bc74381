"""Measured costs: sane on a small model, within the limit, kept on disk, and over whole layers."""

from __future__ import annotations

import dataclasses
import gc
import json
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from bare_tasks import BareTask, token_texts
from job_plans import plan_of
from tiny_jobs import PLAN_DIGEST, tiny_job
from transformers import AutoConfig, AutoModelForSequenceClassification

from edge_agent.hardware.cost_model import StepCost
from edge_agent.hardware.measurement import measure_job, top_matrices
from edge_agent.hardware.profile_cache import MeasuredJob, ProfileCache
from edge_agent.hardware.trial import TrialSteps
from ravan.adapters.basis import drawn_bases
from ravan.errors import ErrorReason, ResourceError
from ravan.heap import give_back_at_once
from ravan.ids import BlockId, Digest
from ravan.manifest.plan import JobPlan, Matrix
from ravan.manifest.profile import JobProfile
from ravan.tasks.loading import load_task_model
from simulation.tiny_text_model import SPECIAL, WORDS

VOCABULARY = len(SPECIAL) + len(WORDS)
ROOMY = 1 << 40
NO_TEXTS = token_texts(np.zeros(0), np.zeros(0), np.zeros(0, np.int64), 0)


class WideModel:
    """Four layers whose activations are large enough to be seen among the allocator's noise."""

    def __init__(self) -> None:
        config = AutoConfig.for_model(
            "bert",
            vocab_size=VOCABULARY,
            hidden_size=64,
            num_hidden_layers=4,
            num_attention_heads=2,
            intermediate_size=1024,
            max_position_embeddings=128,
            num_labels=3,
        )
        self.model = AutoModelForSequenceClassification.from_config(config).eval()  # type: ignore[no-untyped-call]
        base = tiny_job_plan_of_width(64)
        training = dataclasses.replace(base.training, batch_size=32, max_length=128, steps=1)
        self.plan = dataclasses.replace(base, training=training)
        self.task = BareTask(self.model, training, VOCABULARY)

    def measure(self, limit_bytes: int = ROOMY) -> JobProfile:
        return measure_job(
            self.task,
            self.plan,
            PLAN_DIGEST,
            data=NO_TEXTS,
            bases=drawn_bases(self.plan.adapter),
            limit_bytes=limit_bytes,
        )


def tiny_job_plan_of_width(width: int) -> JobPlan:
    plan = plan_of(0, dense=(("classifier.weight", (3, width)), ("classifier.bias", (3,))))
    names = [f"bert.encoder.layer.{layer}.attention.self.{part}" for layer in range(4) for part in ("query", "value")]
    matrices = tuple(
        Matrix(ordinal=i, name=name, out_features=width, in_features=width, basis_digest=Digest(bytes(32)))
        for i, name in enumerate(names)
    )
    return dataclasses.replace(plan, matrices=matrices)


@pytest.fixture
def wide() -> Iterator[WideModel]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    # As the worker process does at its start: what is measured would else depend on the tests that ran before.
    give_back_at_once()
    yield WideModel()
    torch.set_num_threads(threads)


def test_costs_are_sane(wide: WideModel) -> None:
    before = {name: value.clone() for name, value in wide.model.state_dict().items()}
    profile = wide.measure()
    # A layer keeps at least the two halves of its feed-forward part: 32 x 128 x 1024 floats each.
    feed_forward = 2 * 32 * 128 * 1024 * 4
    assert profile.plan_digest == PLAN_DIGEST
    assert profile.ram_loaded_bytes > 50 << 20
    assert feed_forward / 2 < profile.ram_per_matrix_bytes * 2 < 4 * feed_forward
    assert profile.step_floor_s > 0
    after = wide.model.state_dict()
    frozen = [name for name in before if not name.startswith("classifier")]
    assert all(torch.equal(before[name], after[name]) for name in frozen)


def test_a_plan_without_heads_has_no_cost_of_matrices(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, heads=0)
    task = load_task_model(job.folder, job.plan.training)
    profile = measure_job(
        task, job.plan, PLAN_DIGEST, data=NO_TEXTS, bases=drawn_bases(job.plan.adapter), limit_bytes=ROOMY
    )
    assert (profile.ram_per_matrix_bytes, profile.step_per_matrix_s) == (0, 0.0)


def test_nothing_of_a_measured_model_outlives_it(tmp_path: Path) -> None:
    """Nor what autograd holds, where no garbage collector looks: old PCs have no room for two models."""
    job = tiny_job(tmp_path)
    task = load_task_model(job.folder, job.plan.training)
    weights = [weakref.ref(parameter) for parameter in task.model.parameters()]
    measure_job(task, job.plan, PLAN_DIGEST, data=NO_TEXTS, bases=drawn_bases(job.plan.adapter), limit_bytes=ROOMY)
    del task
    gc.collect()
    assert [weight() for weight in weights] == [None] * len(weights)


def test_a_limit_below_the_loaded_model_is_refused(wide: WideModel) -> None:
    with pytest.raises(ResourceError) as caught:
        wide.measure(limit_bytes=1 << 20)
    assert caught.value.reason is ErrorReason.MEMORY_LIMIT
    assert "1 MiB" in str(caught.value)


def test_nothing_is_tried_that_is_predicted_not_to_fit(wide: WideModel, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = wide.measure()
    tried: list[int] = []
    original = TrialSteps.cost_of

    def note(trial: TrialSteps, trained: frozenset[BlockId], batch_size: int) -> StepCost:
        tried.append(batch_size)
        return original(trial, trained, batch_size)

    monkeypatch.setattr(TrialSteps, "cost_of", note)
    # Room for the small part of a batch, but not for a whole one.
    profile = wide.measure(limit_bytes=honest.ram_loaded_bytes + honest.ram_floor_bytes // 3)
    assert max(tried) == 32 // 4
    assert profile.ram_floor_bytes > honest.ram_floor_bytes // 3


@pytest.mark.parametrize(
    ("layers", "per_layer", "expected"), [(6, 2, 4), (4, 2, 2), (12, 2, 6), (12, 6, 18), (1, 2, 2), (2, 1, 1)]
)
def test_whole_layers_are_measured(layers: int, per_layer: int, expected: int) -> None:
    plan = tiny_job_plan_of_width(8)
    names = [f"model.layers.{i}.part{k}" for i in range(layers) for k in range(per_layer)]
    matrices = tuple(dataclasses.replace(plan.matrices[0], ordinal=i, name=name) for i, name in enumerate(names))
    assert top_matrices(dataclasses.replace(plan, matrices=matrices)) == expected


def measured_job(threads: int = 1) -> MeasuredJob:
    profile = JobProfile(
        plan_digest=PLAN_DIGEST,
        ram_loaded_bytes=5,
        ram_floor_bytes=4,
        ram_per_matrix_bytes=3,
        step_floor_s=0.25,
        step_per_matrix_s=0.125,
        ram_reached_bytes=(8, 9),
        step_reached_s=(0.5, 0.75),
    )
    return MeasuredJob(profile=profile, job_name="orders", matrices=12, threads=threads)


def test_a_measurement_is_found_again(tmp_path: Path) -> None:
    ProfileCache(tmp_path / "profiles").keep(measured_job())
    cache = ProfileCache(tmp_path / "profiles")
    assert cache.find(PLAN_DIGEST, 1) == measured_job().profile
    assert list(cache.all()) == [measured_job()]


def test_other_plans_and_thread_counts_are_measured_anew(tmp_path: Path) -> None:
    cache = ProfileCache(tmp_path)
    cache.keep(measured_job(threads=2))
    assert cache.find(PLAN_DIGEST, 1) is None
    assert cache.find(Digest(bytes(32)), 2) is None


@pytest.mark.parametrize("counted", [None, 1, "2"])
def test_what_was_measured_when_other_processes_counted_is_measured_anew(tmp_path: Path, counted: object) -> None:
    cache = ProfileCache(tmp_path)
    cache.keep(measured_job())
    (file,) = tmp_path.iterdir()
    content = json.loads(file.read_bytes())
    del content["memory_model"]
    file.write_text(json.dumps(content if counted is None else content | {"memory_model": counted}))
    assert cache.find(PLAN_DIGEST, 1) is None
    assert list(cache.all()) == []


class CalledOffError(Exception):
    pass


def test_a_measurement_can_be_called_off_before_each_step_and_leaves_the_model_as_it_was(wide: WideModel) -> None:
    names = [name for name, _ in wide.model.named_modules()]
    steps = 0

    def look() -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise CalledOffError

    with pytest.raises(CalledOffError):
        measure_job(
            wide.task,
            wide.plan,
            PLAN_DIGEST,
            data=NO_TEXTS,
            bases=drawn_bases(wide.plan.adapter),
            limit_bytes=ROOMY,
            before_step=look,
        )
    assert steps == 3
    assert [name for name, _ in wide.model.named_modules()] == names


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"profile": 1}', '{"profile": {"plan_digest": "zz"}}'])
def test_a_damaged_file_is_measured_anew(tmp_path: Path, content: str) -> None:
    cache = ProfileCache(tmp_path)
    (tmp_path / f"{PLAN_DIGEST.hex()}.json").write_text(content)
    assert cache.find(PLAN_DIGEST, 1) is None
    assert list(cache.all()) == []
