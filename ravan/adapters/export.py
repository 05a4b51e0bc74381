"""The trained heads as a plain LoRA adapter in PEFT's file format.

sum_i B_i (s_i H_i) A_i = [B_1 ... B_h] times the (s_i H_i) A_i below each other: a LoRA of rank h r with scale 1.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from ravan.adapters.basis import BasisSource, drawn_bases
from ravan.adapters.state import ModelState
from ravan.errors import ConfigError, ErrorReason
from ravan.ids import BlockId, BlockKind
from ravan.manifest.plan import JobPlan, Matrix

_PREFIX: Final = "base_model.model."
"""What PEFT puts before the base model's own names in an adapter file."""

_CLASSIFIERS: Final = frozenset({"classifier", "score"})
"""Modules that PEFT itself saves whole for a sequence classifier."""


def export_peft(
    plan: JobPlan, state: ModelState, out_dir: Path, base_model: str, bases: BasisSource | None = None
) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors` into `out_dir`, made if missing.

    `base_model` is the path or name that a reader loads the base from. Raise ConfigError for a job without
    heads, of which no adapter remains.
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
        tensors |= _lora_tensors(plan, matrix, state, source)
    dense = zip(plan.dense_ids(), plan.dense, strict=True)
    tensors |= {_PREFIX + parameter.name: np.asarray(state[block], order="C") for block, parameter in dense}
    out_dir.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out_dir / "adapter_model.safetensors", metadata={"format": "pt"})
    config = json.dumps(_peft_config(plan, base_model), indent=2, sort_keys=True)
    (out_dir / "adapter_config.json").write_text(config + "\n", encoding="utf-8")


def _lora_tensors(
    plan: JobPlan, matrix: Matrix, state: ModelState, bases: BasisSource
) -> dict[str, NDArray[np.float32]]:
    basis = bases(matrix)
    heads = range(plan.adapter.heads)
    cores = [state[BlockId(BlockKind.HEAD, plan.adapter.epoch, matrix.ordinal, i)].astype(np.float64) for i in heads]
    columns = np.concatenate(list(basis.b), axis=1)  # (out, h r)
    rows = np.concatenate([cores[i] @ basis.a[i] for i in heads], axis=0)  # (h r, in)
    name = _PREFIX + matrix.name
    return {f"{name}.lora_B.weight": columns, f"{name}.lora_A.weight": rows.astype(np.float32)}


def _peft_config(plan: JobPlan, base_model: str) -> dict[str, object]:
    modules = sorted({_saved_module(parameter.name) for parameter in plan.dense})
    rank = plan.adapter.heads * plan.adapter.rank
    others = {matrix.name: plan.adapter.heads * matrix.rank for matrix in plan.matrices if matrix.rank}
    return {
        "peft_type": "LORA",
        # PEFT expects a classifier in the file for this task; without one the adapter is of no special task.
        "task_type": "SEQ_CLS" if _CLASSIFIERS & set(modules) else None,
        "base_model_name_or_path": base_model,
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": others,
        "alpha_pattern": others,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": [matrix.name for matrix in plan.matrices],
        "modules_to_save": modules or None,
        "inference_mode": True,
    }


def _saved_module(parameter: str) -> str:
    """Return the module that PEFT saves whole for a dense parameter: a classifier as one, anything else by itself."""
    module = parameter.rpartition(".")[0]
    root = module.partition(".")[0]
    return root if root in _CLASSIFIERS else module
