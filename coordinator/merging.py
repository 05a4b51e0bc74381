"""The base model with all heads folded in, as a folder that `transformers` loads like any other model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ravan.adapters.state import ModelState
from ravan.manifest.plan import JobPlan


def write_merged(plan: JobPlan, state: ModelState, base: Path, out_dir: Path) -> None:
    """Write config with the job's labels, safetensors weights and tokenizer into `out_dir`; loads the whole model.

    `base` is the base model's folder. Raise ModelError when it is not the plan's.
    """
    from ravan.adapters.model import merge_heads  # noqa: PLC0415 - imports torch, which other exports do not need
    from ravan.adapters.precision import apply_precision, widen_model  # noqa: PLC0415
    from ravan.classifier import load_classifier  # noqa: PLC0415

    labels = plan.training.labels
    classifier = load_classifier(base, len(labels))
    model: Any = classifier.model
    # What was trained and evaluated are heads beside rounded weights, so these are merged with, in float32.
    apply_precision(model, plan.precision, [parameter.name for parameter in plan.dense])
    merge_heads(model, plan, state)
    widen_model(model)
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: number for number, label in enumerate(labels)}
    model.save_pretrained(out_dir)
    classifier.tokenizer.save_pretrained(out_dir)
