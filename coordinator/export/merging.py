"""The base model with all heads folded in, as a folder that `transformers` loads like any other model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ravan.adapters.basis import BasisSource
from ravan.adapters.state import ModelState
from ravan.manifest.plan import JobPlan
from ravan.model_files import CONFIG, INDEX


def write_merged(plan: JobPlan, state: ModelState, base: Path, out_dir: Path, bases: BasisSource) -> None:
    """Write config with the job's labels, weights and what prepares inputs into `out_dir`; loads the whole model.

    `base` is the base model's folder. Raise ModelError when it is not the plan's.
    """
    from ravan.adapters.model import merge_heads  # noqa: PLC0415 - imports torch, which other exports do not need
    from ravan.adapters.precision import widen_model  # noqa: PLC0415
    from ravan.tasks.loading import load_task_model  # noqa: PLC0415

    # What was trained and evaluated are heads beside rounded weights, so these are merged with, in float32.
    model: Any = load_task_model(base, plan.training, plan.precision).model
    merge_heads(model, plan, state, bases)
    widen_model(model)
    if plan.dense:
        labels = plan.training.labels
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {label: number for number, label in enumerate(labels)}
    model.save_pretrained(out_dir)
    for file in plan.model_files:
        if file.path not in {CONFIG, INDEX} and not file.path.endswith(".safetensors"):
            shutil.copyfile(base / file.path, out_dir / file.path)
