"""A text classifier built from a base model's folder, the same at headquarters and at every site.

torch and transformers are imported when a model is loaded and not before. Nothing is fetched and no code
of the model's own runs: safetensors, JSON and word lists from the folder are all that is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ravan.errors import ErrorReason, ModelError

if TYPE_CHECKING:
    from torch import nn

_MOST_MISSING = 0.5
"""Share of the base model's numbers that its weights file may lack; above it, it is another model's file."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Classifier:
    """A loaded model in evaluation mode, with its tokenizer."""

    model: nn.Module
    tokenizer: Any
    """A transformers tokenizer that can pad."""
    new_parameters: tuple[tuple[str, tuple[int, ...]], ...]
    """(name, shape) of what the base model does not give: missing from its weights, or of the classifier."""
    model_type: str
    max_positions: int | None
    """Longest text in tokens; None when the model has no such bound."""


def load_classifier(folder: Path, classes: int) -> Classifier:
    """Build `AutoModelForSequenceClassification` with `classes` outputs in float32.

    New parameters have arbitrary values; a job's state fills them. Raise ModelError MODEL_INVALID when model
    or tokenizer cannot be built from the folder.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        model, missing, tokenizer = _load(folder, classes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError) as error:
        raise _unusable(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}") from None
    _let_pad(model, tokenizer)
    return Classifier(
        model=model.eval(),
        tokenizer=tokenizer,
        new_parameters=tuple(_new_parameters(model, missing)),
        model_type=model.config.model_type,
        max_positions=_max_positions(model, tokenizer),
    )


def tokenise(classifier: Classifier, texts: Sequence[str], max_length: int) -> list[list[int]]:
    """Return the token ids of each text, special tokens included, cut to `max_length`."""
    encoded = classifier.tokenizer(list(texts), truncation=True, max_length=max_length, padding=False)
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def pad_batch(classifier: Classifier, token_ids: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return the model's inputs for one batch, padded to its longest text: int64 tensors (batch, tokens)."""
    batch = classifier.tokenizer.pad({"input_ids": [list(ids) for ids in token_ids]}, return_tensors="pt")
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}


def _load(folder: Path, classes: int) -> tuple[Any, set[str], Any]:
    import torch  # noqa: PLC0415 - see the module's docstring
    from safetensors import SafetensorError  # noqa: PLC0415
    from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: PLC0415
    from transformers.utils import logging  # noqa: PLC0415

    # That the classifier is new is what a job is about; the library would warn of it at length.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    trusted = {"local_files_only": True, "trust_remote_code": False}
    try:
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder,
            num_labels=classes,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **trusted,
        )
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    missing = set(report["missing_keys"]) | {each[0] for each in report["mismatched_keys"]}
    return model, missing, AutoTokenizer.from_pretrained(folder, **trusted)


def _new_parameters(model: Any, missing: set[str]) -> Iterator[tuple[str, tuple[int, ...]]]:
    base = f"{model.base_model_prefix}."
    inside = sum(p.numel() for name, p in model.named_parameters() if name.startswith(base))
    absent = sum(p.numel() for name, p in model.named_parameters() if name.startswith(base) and name in missing)
    if inside and absent > _MOST_MISSING * inside:
        raise _unusable(f"its weights are not those of a '{model.config.model_type}' model")
    for name, parameter in model.named_parameters():
        # A classifier that the folder brings along was trained for other labels, so it starts anew.
        if name in missing or not name.startswith(base):
            yield name, tuple(parameter.shape)


def _max_positions(model: Any, tokenizer: Any) -> int | None:
    # Either may be silent: the configuration by lacking the key, the tokenizer by a number beyond all use.
    known = [getattr(model.config, "max_position_embeddings", None), tokenizer.model_max_length]
    bounds = [int(bound) for bound in known if bound is not None and bound < 1 << 31]
    return min(bounds, default=None)


def _let_pad(model: Any, tokenizer: Any) -> None:
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise _unusable("its tokenizer has no token to pad with")
        tokenizer.pad_token = tokenizer.eos_token
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id


def _unusable(fault: str) -> ModelError:
    return ModelError(
        f"The base model cannot be used as a text classifier: {fault}.",
        reason=ErrorReason.MODEL_INVALID,
        next_step="Add a text model with config.json, safetensors weights and its tokenizer's files.",
    )
