"""Bases that follow the held-out examples: what they lead with, what is left behind, and what is refused."""

from __future__ import annotations

import errno
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluated_models import forget_models, plan_from, random_state, settings, write_held_out
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from coordinator.evaluation import alignment, worker
from coordinator.evaluation.worker import evaluate_state, inspect_model, write_directions
from ravan.adapters.basis import Basis, encode_basis
from ravan.adapters.planned_bases import BasisFiles, differing_matrices, planned_bases
from ravan.adapters.state import decode_state, encode_state, initial_state
from ravan.data.source import DataSource
from ravan.errors import ErrorReason, ModelError, ResourceError, TransferError
from ravan.ids import BlockId, BlockKind, Digest
from ravan.manifest.plan import BasisKind, JobPlan, Precision
from simulation.tiny_text_model import write_tiny_model

ROWS = [(f"the hose {word}", label) for word in ("burst", "leak", "engine", "door") for label in ("pump", "cab")] + [
    ("engine not start", "engine"),
    ("the cab door the cab door the cab door", "cab"),
    ("start the engine", "engine"),
]


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


@pytest.fixture
def plan(folder: Path) -> JobPlan:
    drawn = plan_from(inspect_model(folder, settings(), ("query", "value")), heads=2, rank=3)
    return replace(drawn, adapter=replace(drawn.adapter, basis=BasisKind.ALIGNED))


def written(folder: Path, plan: JobPlan, held_out: DataSource, into: Path) -> tuple[JobPlan, Path]:
    """Return the plan with what was found, and the file of directions."""
    into.mkdir(exist_ok=True)
    path, found = write_directions(folder, plan, held_out, into)
    matrices = tuple(replace(m, basis_digest=digest) for m, digest in zip(plan.matrices, found.bases, strict=True))
    return replace(plan, matrices=matrices, directions=found.directions), path


def gradients_by_hand(folder: Path, plan: JobPlan) -> dict[str, NDArray[np.float64]]:
    """Return the gradient of the summed loss by each adapted weight, with the job's first classifier, text by text."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    state = initial_state(plan)
    for block, dense in zip(plan.dense_ids(), plan.dense, strict=True):
        model.get_parameter(dense.name).data.copy_(torch.from_numpy(state[block]))
    model.eval()
    labels = list(plan.training.labels)
    for text, label in ROWS:
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=plan.training.max_length)
        loss = cross_entropy(model(**inputs).logits, torch.tensor([labels.index(label)]))
        loss.backward()  # type: ignore[no-untyped-call]
    return {m.name: model.get_parameter(f"{m.name}.weight").grad.double().numpy() for m in plan.matrices}


def energy(basis: Basis, gradient: NDArray[np.float64]) -> float:
    columns, rows = np.concatenate(list(basis.b), axis=1), np.concatenate(list(basis.a))
    return float(np.square(columns.T @ gradient @ rows.T).sum())


def test_bases_lead_with_the_strongest_directions_of_the_held_out_gradient(
    folder: Path, plan: JobPlan, held_out: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alignment, "WARM_STEPS", 0)
    settled, directions = written(folder, plan, held_out, tmp_path / "incoming")
    source = planned_bases(settled, BasisFiles(directions=directions))
    assert differing_matrices(settled, directions) == ()
    for matrix in settled.matrices:
        gradient = gradients_by_hand(folder, plan)[matrix.name]
        strongest = np.square(np.linalg.svd(gradient, compute_uv=False))[:6].sum()
        # In two heads of rank 3 six directions have room.
        assert energy(source(matrix), gradient) == pytest.approx(strongest, rel=1e-3)


def test_a_classifier_that_has_learnt_something_changes_what_is_seen(
    folder: Path, plan: JobPlan, held_out: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm, _ = written(folder, plan, held_out, tmp_path / "warm")
    again, _ = written(folder, plan, held_out, tmp_path / "again")
    monkeypatch.setattr(alignment, "WARM_STEPS", 0)
    cold, _ = written(folder, plan, held_out, tmp_path / "cold")
    assert again == warm
    assert not {m.basis_digest for m in warm.matrices} & {m.basis_digest for m in cold.matrices}


def test_examples_beyond_the_most_are_left_out_at_random(
    folder: Path, plan: JobPlan, held_out: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    choose = alignment._choose_rows

    def watched(plan: JobPlan, count: int) -> list[int]:
        seen.append(choose(plan, count))
        return seen[-1]

    monkeypatch.setattr(alignment, "_choose_rows", watched)
    monkeypatch.setattr(alignment, "MOST_EXAMPLES", 4)
    written(folder, plan, held_out, tmp_path / "first")
    written(folder, replace(plan, adapter=replace(plan.adapter, seed=bytes(32))), held_out, tmp_path / "second")
    assert [len(set(rows)) for rows in seen] == [4, 4]
    assert seen[0] != seen[1]
    assert set(seen[0] + seen[1]) <= set(range(len(ROWS)))


@pytest.mark.parametrize("precision", [Precision.FLOAT32, Precision.INT8])
def test_a_version_is_scored_on_the_bases_that_were_found(
    folder: Path, plan: JobPlan, held_out: DataSource, tmp_path: Path, precision: Precision
) -> None:
    """By moving heads: on these bases that changes the logits as the sum of B H A in the weight does."""
    settled, directions = written(folder, replace(plan, precision=precision), held_out, tmp_path / "incoming")
    state = random_state(settled, 3)
    found = evaluate_state(folder, settled, encode_state(settled, state), held_out, directions)
    merged = load_file(folder / "model.safetensors")
    for matrix in settled.matrices:
        basis = planned_bases(settled, BasisFiles(directions=directions))(matrix)
        cores = [state[BlockId(BlockKind.HEAD, 0, matrix.ordinal, head)] for head in range(2)]
        change = sum(b @ core @ a for b, core, a in zip(basis.b, cores, basis.a, strict=True))
        name = next(name for name in merged if name.endswith(matrix.name.removeprefix("bert.") + ".weight"))
        merged[name] = merged[name] + torch.from_numpy(change)
    other = tmp_path / "merged"
    other.mkdir()
    for path in folder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    save_file(merged, other / "model.safetensors", metadata={"format": "pt"})
    still = {block: np.zeros_like(a) if block.kind is BlockKind.HEAD else a for block, a in state.items()}
    expected = evaluate_state(other, settled, encode_state(settled, still), held_out, directions)
    assert found.loss == pytest.approx(expected.loss, rel=1e-4 if precision is Precision.FLOAT32 else 0.05)


def test_a_version_cannot_be_scored_without_sound_directions(
    folder: Path, plan: JobPlan, held_out: DataSource, tmp_path: Path
) -> None:
    settled, directions = written(folder, plan, held_out, tmp_path / "incoming")
    state = encode_state(settled, random_state(settled, 3))
    with pytest.raises(ValueError, match="need directions"):
        evaluate_state(folder, settled, state, held_out)
    directions.write_bytes(directions.read_bytes()[:-4])
    with pytest.raises(TransferError) as caught:
        evaluate_state(folder, settled, state, held_out, directions)
    assert caught.value.reason is ErrorReason.MALFORMED


def test_looking_leaves_the_model_as_it_was(folder: Path, plan: JobPlan, held_out: DataSource, tmp_path: Path) -> None:
    state = encode_state(plan, initial_state(plan))
    before = evaluate_state(folder, plan, state, held_out)
    written(folder, plan, held_out, tmp_path / "incoming")
    assert evaluate_state(folder, plan, state, held_out) == before
    task = worker._KEPT.task
    assert task is not None
    assert not any(parameter.requires_grad for parameter in task.model.parameters())
    assert all(parameter.grad is None for parameter in task.model.parameters())
    assert decode_state(plan, state).keys() == initial_state(plan).keys()


def test_a_gradient_that_is_not_finite_is_refused_and_leaves_no_file(
    folder: Path, plan: JobPlan, held_out: DataSource, tmp_path: Path
) -> None:
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("embeddings.word_embeddings.weight"))
    weights[name] = torch.full_like(weights[name], float("nan"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    forget_models()
    with pytest.raises(ModelError, match="not finite") as caught:
        written(folder, plan, held_out, tmp_path / "incoming")
    assert caught.value.reason is ErrorReason.MODEL_INVALID
    assert "gram_schmidt" in caught.value.next_step
    assert list((tmp_path / "incoming").iterdir()) == []


def test_a_full_disk_is_named_and_leaves_no_file(
    folder: Path, plan: JobPlan, held_out: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    into = tmp_path / "incoming"
    into.mkdir()
    made = tempfile.NamedTemporaryFile

    def opened(*arguments: Any, **options: Any) -> Any:
        file = made(*arguments, **options)
        monkeypatch.setattr(file, "write", full)
        return file

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", opened)
    with pytest.raises(ResourceError) as caught:
        write_directions(folder, plan, held_out, into)
    assert caught.value.reason is ErrorReason.DISK_FULL
    assert list(into.iterdir()) == []


def test_digests_are_those_of_the_file_and_of_the_bases(
    folder: Path, plan: JobPlan, held_out: DataSource, tmp_path: Path
) -> None:
    settled, directions = written(folder, plan, held_out, tmp_path / "incoming")
    assert settled.directions == Digest(hashlib.sha256(directions.read_bytes()).digest())
    source = planned_bases(settled, BasisFiles(directions=directions))
    for matrix in settled.matrices:
        assert hashlib.sha256(encode_basis(source(matrix))).digest() == matrix.basis_digest
    assert settled.files() == plan.files() | {settled.directions}
    assert plan.files() == {file.sha256 for file in plan.model_files}
