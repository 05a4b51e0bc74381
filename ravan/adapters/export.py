"""The trained heads as a plain LoRA adapter in PEFT's file format.

sum_i B_i (s_i H_i) A_i = [B_1 ... B_h] times the (s_i H_i) A_i below each other: a LoRA of rank h r with scale 1.
Where a lower rank is asked for, the nearest product of that rank stands in its place.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from ravan.adapters.basis import BasisSource, drawn_bases
from ravan.adapters.state import ModelState
from ravan.adapters.truncation import truncate
from ravan.errors import ConfigError, ErrorReason
from ravan.ids import BlockId, BlockKind
from ravan.manifest.plan import DenseParameter, JobPlan, Matrix, Task

_PREFIX: Final = "base_model.model."
"""What PEFT puts before the base model's own names in an adapter file."""

_CLASSIFIERS: Final = frozenset({"classifier", "score"})
"""Modules that PEFT itself saves whole for a sequence classifier."""


def export_peft(
    plan: JobPlan,
    state: ModelState,
    out_dir: Path,
    base_model: str,
    bases: BasisSource | None = None,
    *,
    rank: int | None = None,
) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors` into `out_dir`, made if missing.

    `base_model` is the path or name that a reader loads the base from; `rank` is the most that a matrix may have.
    Raise ConfigError for a job without heads, of which no adapter remains.
    """
    if not plan.matrices or plan.adapter.heads == 0:
        raise ConfigError(
            f"Job {plan.job_name} has no heads, so there is no adapter to export.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="Export it with `--format heads`, or train a job with heads >= 1.",
        )
    source = drawn_bases(plan.adapter) if bases is None else bases
    tensors: dict[str, NDArray[np.float32]] = {}
    for matrix in plan.matrices:
        tensors |= _lora_tensors(plan, matrix, state, source, rank or full_rank(plan, matrix))
    dense = zip(plan.dense_ids(), plan.dense, strict=True)
    tensors |= {dense_tensor(parameter): np.asarray(state[block], order="C") for block, parameter in dense}
    out_dir.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out_dir / "adapter_model.safetensors", metadata={"format": "pt"})
    config = json.dumps(_peft_config(plan, base_model, rank), indent=2, sort_keys=True)
    (out_dir / "adapter_config.json").write_text(config + "\n", encoding="utf-8")


def full_rank(plan: JobPlan, matrix: Matrix) -> int:
    """Return the rank of a matrix's update: that of all its heads together."""
    return plan.adapter.heads * plan.adapter.for_matrix(matrix).rank


def adapter_tensors(matrix: Matrix) -> tuple[str, str]:
    """Return what the two factors of a matrix are called in an adapter file: (out, rank), (rank, in)."""
    return f"{_PREFIX}{matrix.name}.lora_B.weight", f"{_PREFIX}{matrix.name}.lora_A.weight"


def dense_tensor(parameter: DenseParameter) -> str:
    """Return what a parameter that was trained whole is called in an adapter file."""
    return _PREFIX + parameter.name


def _lora_tensors(
    plan: JobPlan, matrix: Matrix, state: ModelState, bases: BasisSource, rank: int
) -> dict[str, NDArray[np.float32]]:
    basis = bases(matrix)
    heads = range(plan.adapter.heads)
    cores = [state[BlockId(BlockKind.HEAD, plan.adapter.epoch, matrix.ordinal, i)].astype(np.float64) for i in heads]
    columns = np.concatenate(list(basis.b), axis=1)  # (out, h r)
    rows = np.concatenate([cores[i] @ basis.a[i] for i in heads], axis=0)  # (h r, in)
    if rank < columns.shape[1]:
        columns, rows = truncate(columns.astype(np.float64), rows, rank)
    names = adapter_tensors(matrix)
    return {name: np.asarray(part, np.float32, order="C") for name, part in zip(names, (columns, rows), strict=True)}


def _peft_config(plan: JobPlan, base_model: str, most: int | None) -> dict[str, object]:
    modules = sorted({_saved_module(parameter.name) for parameter in plan.dense})
    ranks = {matrix.name: min(full_rank(plan, matrix), most or full_rank(plan, matrix)) for matrix in plan.matrices}
    usual = max(ranks.values())
    others = {name: rank for name, rank in ranks.items() if rank != usual}
    return {
        "peft_type": "LORA",
        "task_type": _task_type(plan, modules),
        "base_model_name_or_path": base_model,
        "r": usual,
        "lora_alpha": usual,
        "rank_pattern": others,
        "alpha_pattern": others,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": [matrix.name for matrix in plan.matrices],
        "modules_to_save": modules or None,
        "inference_mode": True,
    }


def _task_type(plan: JobPlan, modules: Collection[str]) -> str | None:
    """Return PEFT's name of the task, None where it has none."""
    if plan.training.task is Task.CAUSAL_LM:
        return "CAUSAL_LM"
    # PEFT expects a classifier in the file of a sequence classifier.
    texts = plan.training.task is Task.SEQUENCE_CLASSIFICATION
    return "SEQ_CLS" if texts and _CLASSIFIERS.intersection(modules) else None


def _saved_module(parameter: str) -> str:
    """Return the module that PEFT saves whole for a dense parameter: a classifier as one, anything else by itself."""
    module = parameter.rpartition(".")[0]
    root = module.partition(".")[0]
    return root if root in _CLASSIFIERS else module
