"""Exports: an adapter that PEFT loads, the heads themselves, and the lineage beside each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from job_plans import plan_of
from peft import PeftModel
from tiny_task_models import DINOV2_SIDE, write_tiny_dinov2, write_tiny_llama
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from coordinator.export.exporting import LINEAGE_FILE, Beside, ExportFormat, Lineage, export_job
from ravan.adapters.basis import Directions, draw_basis
from ravan.adapters.directions import directions_in, encode_directions
from ravan.adapters.model import inject
from ravan.adapters.state import block_shapes, decode_state, encode_state
from ravan.codec.documents import model_digest
from ravan.errors import ConfigError, ErrorReason, StateError, TransferError
from ravan.ids import BlockId, BlockKind, Digest
from ravan.manifest.plan import BasisKind, DenseParameter, JobPlan, Matrix, ModelFile, Precision, Task
from ravan.tasks.loading import load_task_model
from simulation.tiny_text_model import HIDDEN, write_tiny_model

LINEAGE = Lineage(rounds=12, accuracy=0.79, exported_at=1_700_000_000.0)


@pytest.fixture
def plan() -> JobPlan:
    plan = plan_of(
        2, heads=2, rank=3, width=HIDDEN, dense=(("classifier.weight", (3, HIDDEN)), ("classifier.bias", (3,)))
    )
    names = [f"bert.encoder.layer.{i}.attention.self.query" for i in (0, 1)]
    matrices = tuple(
        Matrix(
            ordinal=m.ordinal,
            name=name,
            out_features=m.out_features,
            in_features=m.in_features,
            basis_digest=m.basis_digest,
        )
        for m, name in zip(plan.matrices, names, strict=True)
    )
    return JobPlan(**{name: getattr(plan, name) for name in plan.__slots__} | {"matrices": matrices})


@pytest.fixture
def state(plan: JobPlan) -> bytes:
    generator = np.random.default_rng(4)
    shapes = block_shapes(plan)
    return encode_state(plan, {b: generator.normal(0, 1.0, s).astype(np.float32) for b, s in shapes.items()})


def logits(model: torch.nn.Module) -> torch.Tensor:
    ids = torch.tensor([[2, 5, 6, 7, 3], [2, 9, 10, 11, 3]])
    with torch.no_grad():
        result: torch.Tensor = model(input_ids=ids).logits
    return result


# PEFT still reads a name that transformers 5 is retiring.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_the_adapter_gives_the_versions_logits_in_peft(tmp_path: Path, plan: JobPlan, state: bytes) -> None:
    base = write_tiny_model(tmp_path / "base")
    files = export_job(plan, state, tmp_path / "out", ExportFormat.PEFT, LINEAGE, Beside(base_model=str(base)))
    assert [path.name for path in files] == ["adapter_config.json", "adapter_model.safetensors", LINEAGE_FILE]
    ours = load_task_model(base, plan.training).model
    plain = logits(ours)
    inject(ours, plan, decode_state(plan, state), frozenset())
    fresh = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    theirs = PeftModel.from_pretrained(fresh, tmp_path / "out").eval()
    torch.testing.assert_close(logits(theirs), logits(ours), atol=1e-5, rtol=0)
    assert (logits(ours) - plain).abs().max() > 0.1


def test_the_merged_model_gives_the_versions_logits_by_itself(tmp_path: Path, plan: JobPlan, state: bytes) -> None:
    base, out = write_tiny_model(tmp_path / "base"), tmp_path / "out"
    before = {path.name: path.read_bytes() for path in base.iterdir()}
    plan = replace(plan, model_files=files_of(base))
    files = export_job(plan, state, out, ExportFormat.MERGED, LINEAGE, Beside(base_folder=base))
    assert {"config.json", "model.safetensors", LINEAGE_FILE} <= {path.name for path in files}
    assert {path.name: path.read_bytes() for path in base.iterdir()} == before
    ours = load_task_model(base, plan.training).model
    inject(ours, plan, decode_state(plan, state), frozenset())
    merged, report = AutoModelForSequenceClassification.from_pretrained(out, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    torch.testing.assert_close(logits(merged.eval()), logits(ours), atol=1e-5, rtol=0)
    assert merged.config.id2label == dict(enumerate(plan.training.labels))
    tokens = AutoTokenizer.from_pretrained(out)("hose burst")["input_ids"]
    assert tokens == AutoTokenizer.from_pretrained(base)("hose burst")["input_ids"]


def files_of(base: Path) -> tuple[ModelFile, ...]:
    return tuple(ModelFile(path=p.name, sha256=Digest(bytes(32)), size_bytes=1) for p in sorted(base.iterdir()))


def plan_for(task: Task, base: Path) -> JobPlan:
    """Return a plan that adapts the first linear layer of each of two blocks and trains whatever is new."""
    plan = plan_of(2, heads=2, rank=3, width=HIDDEN)
    prompt = "{text} :" if task is Task.CAUSAL_LM else ""
    training = replace(plan.training, task=task, image_side=DINOV2_SIDE, prompt=prompt)
    built = load_task_model(base, training)
    names = [name for name, _ in built.model.named_modules() if name.endswith(("attention.query", "q_proj"))]
    matrices = (replace(matrix, name=name) for matrix, name in zip(plan.matrices, names, strict=True))
    dense = (DenseParameter(ordinal=i, name=n, shape=s) for i, (n, s) in enumerate(built.new_parameters))
    return replace(plan, training=training, matrices=tuple(matrices), dense=tuple(dense), model_files=files_of(base))


@pytest.mark.parametrize(
    ("task", "write", "loader", "inputs", "prepares"),
    [
        (
            Task.IMAGE_CLASSIFICATION,
            write_tiny_dinov2,
            AutoModelForImageClassification,
            {"pixel_values": torch.linspace(-1, 1, 2 * 3 * DINOV2_SIDE**2).view(2, 3, DINOV2_SIDE, DINOV2_SIDE)},
            {"preprocessor_config.json"},
        ),
        (
            Task.CAUSAL_LM,
            write_tiny_llama,
            AutoModelForCausalLM,
            {"input_ids": torch.tensor([[2, 5, 6, 7, 3], [2, 9, 10, 11, 3]])},
            {"vocab.txt", "tokenizer_config.json"},
        ),
    ],
    ids=["images", "answers"],
)
def test_merged_models_of_other_tasks_give_the_versions_outputs_by_themselves(
    tmp_path: Path,
    task: Task,
    write: Callable[[Path], Path],
    loader: Any,
    inputs: dict[str, torch.Tensor],
    prepares: set[str],
) -> None:
    base, out = write(tmp_path / "base"), tmp_path / "out"
    plan = plan_for(task, base)
    generator = np.random.default_rng(4)
    blocks = {b: generator.normal(0, 1.0, s).astype(np.float32) for b, s in block_shapes(plan).items()}
    export_job(plan, encode_state(plan, blocks), out, ExportFormat.MERGED, LINEAGE, Beside(base_folder=base))
    ours: Any = load_task_model(base, plan.training).model
    with torch.no_grad():
        plain = ours(**inputs).logits
        inject(ours, plan, blocks, frozenset())
        wanted = ours(**inputs).logits
        merged, report = loader.from_pretrained(out, output_loading_info=True)
        assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        torch.testing.assert_close(merged.eval()(**inputs).logits, wanted, atol=1e-4, rtol=1e-4)
    assert (wanted - plain).abs().max() > 0.1
    for name in prepares:
        assert (out / name).read_bytes() == (base / name).read_bytes()
    named = "pump" in merged.config.label2id
    assert named is (task is Task.IMAGE_CLASSIFICATION)


@pytest.mark.parametrize("precision", [Precision.BFLOAT16, Precision.INT8])
def test_a_narrow_job_merges_into_the_weights_that_it_was_trained_beside(
    tmp_path: Path, plan: JobPlan, state: bytes, precision: Precision
) -> None:
    base, plan = write_tiny_model(tmp_path / "base"), replace(plan, precision=precision)
    export_job(plan, state, tmp_path / "out", ExportFormat.MERGED, LINEAGE, Beside(base_folder=base))
    ours = load_task_model(base, plan.training, precision).model
    inject(ours, plan, decode_state(plan, state), frozenset())
    merged, report = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.float32}
    # What the narrow model passes on is rounded to eight bits some thirty times.
    found, expected = logits(merged.eval()), logits(ours)
    assert (found - expected).norm() <= 0.05 * expected.norm()
    query = "bert.encoder.layer.0.attention.self.key.weight"  # of a layer without heads
    original = load_task_model(base, plan.training).model.get_parameter(query)
    rounding = original.abs().amax() / 254 if precision is Precision.INT8 else original.abs().amax() * 2.0**-8
    assert 0 < (merged.get_parameter(query) - original).abs().max() <= 1.001 * rounding


def test_heads_are_the_state_itself_with_a_readable_plan(tmp_path: Path, plan: JobPlan, state: bytes) -> None:
    export_job(plan, state, tmp_path / "out", ExportFormat.HEADS, LINEAGE)
    assert (tmp_path / "out" / "heads.safetensors").read_bytes() == state
    written = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert bytes.fromhex(written["adapter"]["seed"]) == plan.adapter.seed
    assert written["adapter"]["basis"] == "gram_schmidt"
    assert [matrix["name"] for matrix in written["matrices"]] == [matrix.name for matrix in plan.matrices]


@pytest.fixture
def aligned(plan: JobPlan, tmp_path: Path) -> tuple[JobPlan, Path]:
    """A plan whose bases lead with directions, and the file of these."""
    generator = np.random.default_rng(6)
    found = {
        matrix.ordinal: Directions(
            left=generator.standard_normal((matrix.out_features, 2)).astype(np.float32),
            right=generator.standard_normal((2, matrix.in_features)).astype(np.float32),
        )
        for matrix in plan.matrices
    }
    file = tmp_path / "f00d"
    file.write_bytes(encode_directions(found))
    adapter = replace(plan.adapter, basis=BasisKind.ALIGNED)
    return replace(plan, adapter=adapter, directions=Digest(hashlib.sha256(file.read_bytes()).digest())), file


# PEFT still reads a name that transformers 5 is retiring.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("layout", [ExportFormat.PEFT, ExportFormat.MERGED])
def test_directions_lead_the_bases_that_the_export_is_made_with(
    tmp_path: Path, aligned: tuple[JobPlan, Path], state: bytes, layout: ExportFormat
) -> None:
    base, (plan, directions) = write_tiny_model(tmp_path / "base"), aligned
    plan = replace(plan, model_files=files_of(base))
    beside = Beside(base_model=str(base), base_folder=base, directions=directions)
    export_job(plan, state, tmp_path / "out", layout, LINEAGE, beside)
    model: Any = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    blocks = decode_state(plan, state)
    for block, dense in zip(plan.dense_ids(), plan.dense, strict=True):
        model.get_parameter(dense.name).data.copy_(torch.from_numpy(blocks[block]))
    for matrix in plan.matrices:
        drawn = draw_basis(
            plan.adapter,
            matrix.ordinal,
            matrix.out_features,
            matrix.in_features,
            lead=directions_in(directions)(matrix),
        )
        cores = [blocks[BlockId(BlockKind.HEAD, 0, matrix.ordinal, i)] for i in range(plan.adapter.heads)]
        change = sum(b @ core @ a for b, core, a in zip(drawn.b, cores, drawn.a, strict=True))
        model.get_parameter(f"{matrix.name}.weight").data.add_(torch.from_numpy(change))
    fresh: Any = AutoModelForSequenceClassification.from_pretrained(
        base if layout is ExportFormat.PEFT else tmp_path / "out", num_labels=3
    )
    found = PeftModel.from_pretrained(fresh, tmp_path / "out") if layout is ExportFormat.PEFT else fresh
    torch.testing.assert_close(logits(found.eval()), logits(model.eval()), atol=1e-4, rtol=0)


def test_heads_come_with_the_directions_that_their_bases_lead_with(
    tmp_path: Path, aligned: tuple[JobPlan, Path], state: bytes
) -> None:
    plan, directions = aligned
    files = export_job(plan, state, tmp_path / "out", ExportFormat.HEADS, LINEAGE, Beside(directions=directions))
    assert [path.name for path in files] == ["directions.safetensors", "heads.safetensors", "plan.json", LINEAGE_FILE]
    assert files[0].read_bytes() == directions.read_bytes()
    assert json.loads(files[2].read_text())["directions"] == plan.directions.hex()


def test_the_lineage_names_job_version_base_and_files(tmp_path: Path, plan: JobPlan, state: bytes) -> None:
    export_job(plan, state, tmp_path / "out", ExportFormat.HEADS, LINEAGE)
    lineage = json.loads((tmp_path / "out" / LINEAGE_FILE).read_text())
    assert (lineage["job_id"], lineage["run_id"]) == ("excavators-0a1b2c3d", plan.run_id.hex())
    assert (lineage["rounds"], lineage["accuracy"], lineage["format"]) == (12, 0.79, "heads")
    assert lineage["version_digest"] == hashlib.sha256(state).hexdigest()
    assert lineage["base_model_digest"] == model_digest(plan.model_files).hex()
    assert lineage["files"]["heads.safetensors"] == lineage["version_digest"]


def test_refusals_write_nothing(tmp_path: Path, plan: JobPlan, state: bytes) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="without the base model's files") as caught:
        export_job(plan, state, out, ExportFormat.MERGED, LINEAGE)
    assert "ravan-coordinator export" in caught.value.next_step
    with pytest.raises(TransferError):
        export_job(plan, state[:-4], out, ExportFormat.HEADS, LINEAGE)
    headless = plan_of(0, heads=0)
    dense = encode_state(headless, {b: np.zeros(s, np.float32) for b, s in block_shapes(headless).items()})
    with pytest.raises(ConfigError, match="has no heads"):
        export_job(headless, dense, out, ExportFormat.PEFT, LINEAGE)
    assert not out.exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path, plan: JobPlan, state: bytes) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StateError) as caught:
        export_job(plan, state, tmp_path, ExportFormat.HEADS, LINEAGE)
    assert caught.value.reason is ErrorReason.ALREADY_EXISTS
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(StateError):
        export_job(plan, state, tmp_path / "notes.txt", ExportFormat.HEADS, LINEAGE)
