"""Looking into a model and scoring versions, against plain loops over the same files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluated_models import forget_models, plan_from, random_state, settings, write_held_out
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from coordinator.evaluation.worker import evaluate_state, inspect_model
from ravan.adapters.basis import draw_basis
from ravan.adapters.state import encode_state
from ravan.data.source import DataSource
from ravan.errors import ConfigError, DataError, ErrorReason, ModelError, TransferError
from ravan.ids import BlockId, BlockKind
from ravan.manifest.plan import JobPlan, Precision
from ravan.tasks.loading import load_task_model
from simulation.tiny_text_model import HIDDEN, write_tiny_model

ROWS = (
    ("the hose burst", "pump"),
    ("engine not start", "engine"),
    ("leak", "pump"),
    ("the cab door the cab door the cab door", "cab"),
    ("the door", "cab"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "model")


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    forget_models()


@pytest.fixture
def held_out(tmp_path: Path) -> DataSource:
    return write_held_out(tmp_path, ROWS)


def test_inventory_of_a_tiny_model(folder: Path) -> None:
    inventory = inspect_model(folder, settings(), ("query", "value"))
    names = [f"bert.encoder.layer.{i}.attention.self.{part}" for i in (0, 1) for part in ("query", "value")]
    assert inventory.linears == tuple((name, HIDDEN, HIDDEN) for name in names)
    assert inventory.dense == (("classifier.weight", (3, HIDDEN)), ("classifier.bias", (3,)))
    assert (inventory.model_type, inventory.training) == ("bert", settings())


def test_inventory_is_the_same_after_an_evaluation(folder: Path, held_out: DataSource) -> None:
    before = inspect_model(folder, settings(), ("query", "value"))
    plan = plan_from(before)
    evaluate_state(folder, plan, encode_state(plan, random_state(plan, 1)), held_out)
    assert inspect_model(folder, settings(), ("query", "value")) == before


@pytest.mark.parametrize("precision", [Precision.BFLOAT16, Precision.INT8])
def test_a_narrow_job_is_scored_on_its_narrow_model(folder: Path, held_out: DataSource, precision: Precision) -> None:
    plan = plan_from(inspect_model(folder, settings(), ("query", "value")))
    state = encode_state(plan, random_state(plan, 1))
    whole = evaluate_state(folder, plan, state, held_out)
    narrow = evaluate_state(folder, replace(plan, precision=precision), state, held_out)
    assert narrow.loss != whole.loss, "nothing was rounded"
    assert narrow.loss == pytest.approx(whole.loss, rel=0.1)
    assert evaluate_state(folder, plan, state, held_out) == whole


def test_no_targets_means_dense_blocks_alone(folder: Path) -> None:
    assert inspect_model(folder, settings(4), ()).linears == ()


def test_wrong_targets_are_refused_with_the_names_that_exist(folder: Path) -> None:
    with pytest.raises(ConfigError, match="q_proj") as caught:
        inspect_model(folder, settings(), ("q_proj",))
    assert "query" in str(caught.value)
    with pytest.raises(ConfigError, match="trained whole anyway"):
        inspect_model(folder, settings(), ("classifier",))


def test_role_means_its_layers_of_every_block_and_no_pooler(folder: Path) -> None:
    by_role = inspect_model(folder, settings(), ("mlp",)).linears
    block = "bert.encoder.layer"
    ends = [("intermediate.dense", 24, HIDDEN), ("output.dense", HIDDEN, 24)]
    assert by_role == tuple((f"{block}.{i}.{end}", out, inputs) for i in range(2) for end, out, inputs in ends)


def test_a_classifier_that_the_folder_brings_is_trained_anew(folder: Path, tmp_path: Path) -> None:
    trained = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    trained.save_pretrained(tmp_path / "trained")
    for name in ("vocab.txt", "tokenizer_config.json"):
        (tmp_path / "trained" / name).write_bytes((folder / name).read_bytes())
    for classes in (3, 5):
        dense = load_task_model(tmp_path / "trained", settings(classes)).new_parameters
        assert dense == (("classifier.weight", (classes, HIDDEN)), ("classifier.bias", (classes,)))


def test_folders_that_are_no_text_model_are_refused(folder: Path, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other")
    (other / "config.json").write_text((folder / "config.json").read_text().replace('"bert"', '"distilbert"'))
    with pytest.raises(ModelError, match="not those of a 'distilbert' model"):
        load_task_model(other, settings())
    (folder / "config.json").write_text('{"model_type": "no-such-model"}')
    with pytest.raises(ModelError, match="cannot be used for this task") as caught:
        load_task_model(folder, settings())
    assert caught.value.reason is ErrorReason.MODEL_INVALID


def expected_scores(folder: Path, plan: JobPlan, state: dict[BlockId, NDArray[np.float32]]) -> tuple[float, float]:
    """One text at a time, without padding, heads added to the weights from the paper's formula."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3).eval()
    with torch.no_grad():
        for matrix in plan.matrices:
            basis = draw_basis(plan.adapter, matrix.ordinal, matrix.out_features, matrix.in_features)
            for head in range(plan.adapter.heads):
                core = state[BlockId(BlockKind.HEAD, 0, matrix.ordinal, head)]
                change = basis.b[head].astype(np.float64) @ core @ basis.a[head]
                model.get_submodule(matrix.name).weight.add_(torch.tensor(change, dtype=torch.float32))
        for block, parameter in zip(plan.dense_ids(), plan.dense, strict=True):
            model.get_parameter(parameter.name).copy_(torch.from_numpy(state[block]))
        losses, right = [], 0
        for text, label in ROWS:
            ids = tokenizer(text, truncation=True, max_length=plan.training.max_length)["input_ids"]
            logits = model(input_ids=torch.tensor([ids])).logits[0].double().numpy()
            target = plan.training.labels.index(label)
            losses.append(math.log(np.exp(logits).sum()) - logits[target])
            right += int(logits.argmax() == target)
    return right / len(ROWS), sum(losses) / len(ROWS)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_scores_equal_those_of_a_plain_loop(folder: Path, held_out: DataSource, seed: int) -> None:
    plan = plan_from(inspect_model(folder, settings(), ("query", "value")))
    state = random_state(plan, seed)
    evaluation = evaluate_state(folder, plan, encode_state(plan, state), held_out)
    accuracy, loss = expected_scores(folder, plan, state)
    assert evaluation.examples == len(ROWS)
    assert evaluation.accuracy == pytest.approx(accuracy)
    assert evaluation.loss == pytest.approx(loss, rel=1e-4)


def test_versions_do_not_leak_into_each_other(folder: Path, held_out: DataSource) -> None:
    plan = plan_from(inspect_model(folder, settings(), ("query", "value")))
    first, second = (encode_state(plan, random_state(plan, seed)) for seed in (1, 2))
    alone = evaluate_state(folder, plan, first, held_out)
    assert evaluate_state(folder, plan, second, held_out) != alone
    assert evaluate_state(folder, plan, first, held_out) == alone


def test_a_job_without_heads_is_scored(folder: Path, held_out: DataSource) -> None:
    plan = plan_from(inspect_model(folder, settings(), ()), heads=0, rank=1)
    state = random_state(plan, 5)
    evaluation = evaluate_state(folder, plan, encode_state(plan, state), held_out)
    assert evaluation.loss == pytest.approx(expected_scores(folder, plan, state)[1], rel=1e-4)


def test_bad_states_and_files_are_refused(folder: Path, held_out: DataSource) -> None:
    plan = plan_from(inspect_model(folder, settings(), ("query", "value")))
    with pytest.raises(TransferError):
        evaluate_state(folder, plan, b"garbage", held_out)
    held_out.path.write_text("text,label\nhose,hydraulics\n")
    with pytest.raises(DataError, match=r"held-out\.csv, line 2, has the label 'hydraulics'"):
        evaluate_state(folder, plan, encode_state(plan, random_state(plan, 1)), held_out)
