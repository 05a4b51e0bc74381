"""What runs inside the evaluation process. One model and one tokenised held-out file are kept between calls."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from coordinator.evaluation.findings import Evaluation, HeldOutFile, Inventory
from ravan.classifier import Classifier, load_classifier, pad_batch, tokenise
from ravan.data.tables import read_examples
from ravan.errors import ConfigError, ErrorReason
from ravan.manifest.plan import JobPlan, Precision

BATCH: Final = 64
"""Texts per forward pass; neighbours in length, so that little is padding."""

_NICENESS: Final = 5
"""The daemon answers heartbeats on the same cores, and comes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _HeldOut:
    token_ids: list[list[int]] = field(repr=False)
    label_ids: tuple[int, ...] = field(repr=False)


@dataclass(slots=True)
class _Kept:
    """The last model and the last data; there is room for one of each."""

    model_key: tuple[Path, int, Precision] | None = None
    classifier: Classifier | None = None
    data_key: tuple[object, ...] | None = None
    data: _HeldOut | None = None


_KEPT: Final = _Kept()


def prepare_process(threads: int) -> None:
    """Set up a fresh process: `threads` for torch, no downloads, quiet priority, gone when the daemon is."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # Ctrl-C reaches the whole terminal group; the daemon alone decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICENESS)
    threading.Thread(target=_follow_parent, daemon=True).start()
    import torch  # noqa: PLC0415 - only this process may import it

    torch.set_num_threads(threads)


def inspect_model(folder: Path, classes: int, targets: tuple[str, ...]) -> Inventory:
    """Build the classifier and list what a job can adapt and must train whole.

    No `targets` means dense blocks alone. Raise ModelError MODEL_INVALID for a folder that is no text model and
    ConfigError CONFIG_INVALID for a target that matches nothing.
    """
    from ravan.adapters.model import find_linears, remove  # noqa: PLC0415 - imports torch

    classifier = _classifier(folder, classes, Precision.FLOAT32, ())
    remove(classifier.model)
    new_modules = {name.rpartition(".")[0] for name, _ in classifier.new_parameters}
    linears = find_linears(classifier.model, targets, exclude=new_modules) if targets else []
    if targets and not linears:
        raise ConfigError(
            f"[adapter] targets {', '.join(targets)} match only layers that are new and trained whole anyway.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="Name layers of the base model, such as query and value.",
        )
    return Inventory(
        linears=tuple(linears),
        dense=classifier.new_parameters,
        parameters=sum(parameter.numel() for parameter in classifier.model.parameters()),
        model_type=classifier.model_type,
        max_positions=classifier.max_positions,
    )


def evaluate_state(folder: Path, plan: JobPlan, state: bytes, held_out: HeldOutFile) -> Evaluation:
    """Score one version, given as `encode_state`'s bytes, on the held-out file.

    Raise TransferError MALFORMED for a state that is not the plan's, DataError for the file, ModelError for
    the folder.
    """
    import torch  # noqa: PLC0415 - only this process may import it

    from ravan.adapters.model import inject  # noqa: PLC0415 - imports torch
    from ravan.adapters.state import decode_state  # noqa: PLC0415 - reads numbers only here

    blocks = decode_state(plan, state)
    new = [parameter.name for parameter in plan.dense]
    classifier = _classifier(folder, len(plan.training.labels), plan.precision, new)
    data = _held_out(classifier, folder, plan, held_out)
    with torch.inference_mode():
        inject(classifier.model, plan, blocks, frozenset())
        right, loss = _score(classifier, data)
    count = len(data.label_ids)
    return Evaluation(accuracy=right / count, loss=loss / count, examples=count)


def _score(classifier: Classifier, data: _HeldOut) -> tuple[int, float]:
    """Return the number of right answers and the summed cross-entropy, the latter in float64."""
    import torch  # noqa: PLC0415 - only this process may import it

    order = sorted(range(len(data.token_ids)), key=lambda i: len(data.token_ids[i]))
    right, loss = 0, 0.0
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        inputs: dict[str, Any] = pad_batch(classifier, [data.token_ids[i] for i in rows])
        logits = classifier.model(**inputs).logits.double()  # (batch, classes)
        wanted = torch.tensor([data.label_ids[i] for i in rows])
        right += int((logits.argmax(1) == wanted).sum())
        loss += float(torch.nn.functional.cross_entropy(logits, wanted, reduction="sum"))
    return right, loss


def _classifier(folder: Path, classes: int, precision: Precision, new: Sequence[str]) -> Classifier:
    from ravan.adapters.precision import apply_precision  # noqa: PLC0415 - imports torch

    key = (folder, classes, precision)
    if _KEPT.classifier is None or _KEPT.model_key != key:
        # The old model goes before the new one comes: one fits in memory, two may not.
        _KEPT.classifier, _KEPT.data_key, _KEPT.data = None, None, None
        classifier = load_classifier(folder, classes)
        apply_precision(classifier.model, precision, new)
        _KEPT.classifier, _KEPT.model_key = classifier, key
    return _KEPT.classifier


def _held_out(classifier: Classifier, folder: Path, plan: JobPlan, file: HeldOutFile) -> _HeldOut:
    training = plan.training
    key = (folder, file, training.labels, training.max_length)
    if _KEPT.data is None or _KEPT.data_key != key:
        examples = read_examples(
            file.path, file.table_format, file.text_column, file.label_column, training.labels, name=file.name
        )
        token_ids = tokenise(classifier, examples.texts, training.max_length)
        _KEPT.data, _KEPT.data_key = _HeldOut(token_ids=token_ids, label_ids=examples.label_ids), key
    return _KEPT.data


def _follow_parent() -> None:
    """End this process with the daemon, also when that was killed and could tell nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)
