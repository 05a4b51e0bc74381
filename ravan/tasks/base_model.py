"""A base model built from its folder. Nothing is fetched and no code of the model's own runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from ravan.errors import ErrorReason, ModelError
from ravan.manifest.plan import Precision

TRUSTED: Final[Mapping[str, bool]] = {"local_files_only": True, "trust_remote_code": False}
"""What every loader of transformers is told."""

_LARGEST: Final = float(np.finfo(np.float32).max)
_NARROW: Final = {frozenset({"BF16"}): torch.bfloat16, frozenset({"F16"}): torch.float16}
_WHOLE: Final = frozenset({"BOOL", "U8", "I8", "I16", "U16", "I32", "U32", "I64", "U64"})
"""How safetensors names types, alone in a file; and those of whole numbers."""
_PREPROCESSOR: Final = "preprocessor_config.json"
_MOST_MISSING: Final = 0.5
"""Share of the base model's numbers that its weights file may lack; above it, it is another model's file."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BaseModel:
    """A base model with whatever its task puts on top, in evaluation mode and float32, or as narrow as its file."""

    model: Any
    """A transformers model."""
    new_parameters: tuple[tuple[str, tuple[int, ...]], ...]
    """(name, shape) of what the folder does not give: missing from the weights, or of a classifier."""
    folder: Path


def load_base_model(loader: Any, folder: Path, precision: Precision = Precision.FLOAT32, **options: Any) -> BaseModel:
    """Build a model with a `from_pretrained` of transformers and these options.

    It is float32 or, where a narrow `precision` will be applied and the whole file is as narrow, as the file has it: a
    wide copy of everything would only be made to be thrown away. New parameters have arbitrary values; a job's state
    fills them. Raise ModelError for weights of another model, and whatever transformers raises for a folder that it
    cannot read.
    """
    stored = torch.float32 if precision is Precision.FLOAT32 else _stored_type(folder)
    model, missing = _build(loader, folder, stored, options)
    if stored is not torch.float32 and not _widen_buffers(model, missing):
        model, missing = _build(loader, folder, torch.float32, options)
    return BaseModel(model=model.eval(), new_parameters=tuple(_new_parameters(model, missing)), folder=folder)


def _build(loader: Any, folder: Path, dtype: torch.dtype, options: Mapping[str, Any]) -> tuple[Any, set[str]]:
    """Return the model and what the folder does not give."""
    from safetensors import SafetensorError  # noqa: PLC0415 - as slow to import as transformers
    from transformers.utils import logging  # noqa: PLC0415

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # That a classifier is new is what a job is about; the library would warn of it at length.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model, report = loader.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **TRUSTED,
            **options,
        )
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    return model, set(report["missing_keys"]) | {each[0] for each in report["mismatched_keys"]}


def _stored_type(folder: Path) -> torch.dtype:
    """Return the narrow type that all fractions in the weights' files have, or float32."""
    from safetensors import safe_open  # noqa: PLC0415 - as slow to import as transformers

    kinds = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            kinds |= {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - no mapping
    return _NARROW.get(frozenset(kinds - _WHOLE), torch.float32)


def _widen_buffers(model: Any, missing: set[str]) -> bool:
    """Make what is no parameter float32; return False where that was computed in a narrow type while building."""
    for prefix, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            if not buffer.is_floating_point() or buffer.dtype is torch.float32:
                continue
            if name in module._non_persistent_buffers_set or f"{prefix}.{name}".lstrip(".") in missing:
                return False
            setattr(module, name, buffer.float())
    return True


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
    least = float(np.finfo(np.float32).tiny) if positive else -_LARGEST
    if isinstance(values, list) and len(values) == count and all(_is_within(each, least) for each in values):
        return np.asarray(values, np.float32)
    wanted = "numbers above 0" if positive else "numbers"
    raise unusable(f"'{key}' in its {_PREPROCESSOR} is no list of {count} {wanted}")


def _is_within(value: object, least: float) -> bool:
    return type(value) in (int, float) and least <= value <= _LARGEST  # type: ignore[operator]


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
