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
    from ravan.classifier import load_classifier  # noqa: PLC0415

    labels = plan.training.labels
    classifier = load_classifier(base, len(labels))
    merge_heads(classifier.model, plan, state)
    model: Any = classifier.model
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: number for number, label in enumerate(labels)}
    model.save_pretrained(out_dir)
    classifier.tokenizer.save_pretrained(out_dir)
