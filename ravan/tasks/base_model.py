"""A base model built from its folder. Nothing is fetched and no code of the model's own runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from ravan.errors import ErrorReason, ModelError

TRUSTED: Final[Mapping[str, bool]] = {"local_files_only": True, "trust_remote_code": False}
"""What every loader of transformers is told."""

_PREPROCESSOR: Final = "preprocessor_config.json"
_MOST_MISSING: Final = 0.5
"""Share of the base model's numbers that its weights file may lack; above it, it is another model's file."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BaseModel:
    """A base model with whatever its task puts on top, in evaluation mode and float32."""

    model: Any
    """A transformers model."""
    new_parameters: tuple[tuple[str, tuple[int, ...]], ...]
    """(name, shape) of what the folder does not give: missing from the weights, or of a classifier."""
    folder: Path


def load_base_model(loader: Any, folder: Path, **options: Any) -> BaseModel:
    """Build a model with a `from_pretrained` of transformers and these options.

    New parameters have arbitrary values; a job's state fills them. Raise ModelError for weights of another model, and
    whatever transformers raises for a folder that it cannot read.
    """
    from safetensors import SafetensorError  # noqa: PLC0415 - as slow to import as transformers
    from transformers.utils import logging  # noqa: PLC0415

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # That a classifier is new is what a job is about; the library would warn of it at length.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model, report = loader.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **TRUSTED,
            **options,
        )
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    missing = set(report["missing_keys"]) | {each[0] for each in report["mismatched_keys"]}
    return BaseModel(model=model.eval(), new_parameters=tuple(_new_parameters(model, missing)), folder=folder)


def read_preprocessor(folder: Path) -> Mapping[str, Any]:
    """Return how the model's inputs are prepared; raise ModelError when the folder does not say it."""
    try:
        document = json.loads((folder / _PREPROCESSOR).read_bytes())
    except (OSError, ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise unusable(f"it has no sound {_PREPROCESSOR}, which says how its inputs are scaled")
    return document


def numbers_of(document: Mapping[str, Any], key: str, count: int, *, positive: bool = False) -> NDArray[np.float32]:
    """Return a list of `count` finite numbers, all above 0 where `positive` is asked; else raise ModelError."""
    values = document.get(key)
    if isinstance(values, Sequence) and len(values) == count and all(type(each) in (int, float) for each in values):
        found = np.asarray(values, np.float32)
        if np.isfinite(found).all() and (not positive or (found > 0).all()):
            return found
    wanted = "numbers above 0" if positive else "numbers"
    raise unusable(f"'{key}' in its {_PREPROCESSOR} is no list of {count} {wanted}")


def unusable(fault: str) -> ModelError:
    """Return the error for a base model that does not do for a task."""
    return ModelError(
        f"The base model cannot be used for this task: {fault}.",
        reason=ErrorReason.MODEL_INVALID,
        next_step="Add a model of the task's kind, with config.json, safetensors weights and the files that prepare"
        " its inputs: a tokenizer's, or preprocessor_config.json.",
    )


def _new_parameters(model: Any, missing: set[str]) -> Iterator[tuple[str, tuple[int, ...]]]:
    base = f"{model.base_model_prefix}."
    inside = sum(p.numel() for name, p in model.named_parameters() if name.startswith(base))
    absent = sum(p.numel() for name, p in model.named_parameters() if name.startswith(base) and name in missing)
    if inside and absent > _MOST_MISSING * inside:
        raise unusable(f"its weights are not those of a '{model.config.model_type}' model")
    # What generates text keeps the output layer that came with the model: its words are those of the base.
    speaks = model.can_generate()
    for name, parameter in model.named_parameters():
        # A classifier that the folder brings along was trained for other labels, so it starts anew.
        if name in missing or (not name.startswith(base) and not speaks):
            yield name, tuple(parameter.shape)
