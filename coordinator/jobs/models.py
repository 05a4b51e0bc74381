"""Taking in a base model: which files may enter, and what must hold of each.

Weights come as safetensors only, the rest as JSON and word lists under fixed names. Pickles and Python
files can run code when they are loaded, so they never enter; nor does a configuration that asks for
code of its own (`auto_map`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coordinator.jobs.tensorfile import TensorEntry, read_tensors
from coordinator.store.blobs.base import BlobStore
from coordinator.store.records import ModelRecord
from ravan.codec.documents import model_digest
from ravan.errors import ErrorReason, ModelError
from ravan.manifest.plan import ModelFile
from ravan.model_files import CONFIG, INDEX, JSON_FILES, WEIGHTS, WORD_LISTS, is_model_file

_JSON_LIMIT: Final = 256 << 20
"""Most bytes of a JSON file; the largest tokenizers have some tens of millions."""

_TYPE_CHARACTERS: Final = 100
"""Most characters of a model's type; operators see it in tables."""

MODEL_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What the files of a model say about it."""

    model_type: str
    """`model_type` of its configuration."""
    parameters: int
    """Numbers in all its tensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """The files of a folder that make up a model."""

    files: Mapping[str, Path]
    """By name."""
    ignored: tuple[str, ...]
    """Names that stay behind: pickles, code, documentation, folders."""


def collect_model_folder(folder: Path) -> ModelFolder:
    """Pick the files of a model out of a local folder; raise ModelError MODEL_MISSING when there are none."""
    if not folder.is_dir():
        raise ModelError(
            f"There is no folder {folder}.", reason=ErrorReason.MODEL_MISSING, next_step="Give the model's own folder."
        )
    names = sorted(entry.name for entry in folder.iterdir())
    files = {name: folder / name for name in names if is_model_file(name) and (folder / name).is_file()}
    if CONFIG not in files or not any(name.endswith(".safetensors") for name in files):
        raise ModelError(
            f"{folder} holds no model: it needs {CONFIG} and {WEIGHTS} (or its shards with {INDEX}).",
            reason=ErrorReason.MODEL_MISSING,
            next_step="Pickled weights such as pytorch_model.bin are not read; convert them to safetensors first.",
        )
    return ModelFolder(files=files, ignored=tuple(name for name in names if name not in files))


def record_model(name: str, files: Sequence[ModelFile], blobs: BlobStore, now: float) -> ModelRecord:
    """Check the uploaded files of a model and return its record.

    Blocks on disk. Raise ModelError MODEL_INVALID for a file that may not enter or is unsound, and
    TransferError BLOB_MISSING for one that was not uploaded.
    """
    if not MODEL_NAME.fullmatch(name):
        raise _invalid(f"'{name}' is no name for a model", "Use lower-case letters, digits, dots, hyphens, underscores")
    if len({file.path for file in files}) < len(files):
        raise _invalid("A file of the model is given twice", "Send each file once")
    ordered = tuple(sorted(files, key=lambda file: file.path))
    for file in ordered:
        _check_name(file.path)
        if blobs.size(file.sha256) != file.size_bytes:
            raise _invalid(f"{file.path} does not have the size that was announced", "Add the model again")
    facts = check_model_files({file.path: blobs.path(file.sha256) for file in ordered})
    return ModelRecord(
        name=name,
        files=ordered,
        digest=model_digest(ordered),
        model_type=facts.model_type,
        parameters=facts.parameters,
        added_at=now,
    )


def check_model_files(files: Mapping[str, Path]) -> ModelFacts:
    """Check a model's files, given as name to local path; raise ModelError MODEL_INVALID."""
    for name in files:
        _check_name(name)
    documents = {name: _read_json(name, path) for name, path in files.items() if name in JSON_FILES}
    if CONFIG not in documents:
        raise _invalid(f"The model has no {CONFIG}", "Add it from the place that the weights came from")
    for name, document in documents.items():
        if "auto_map" in document:
            raise _invalid(f"{name} asks for code of the model's own (auto_map)", "Use a model that needs none")
    model_type = documents[CONFIG].get("model_type")
    if not isinstance(model_type, str) or not 0 < len(model_type) <= _TYPE_CHARACTERS or not model_type.isprintable():
        raise _invalid(f"{CONFIG} does not say what kind of model it is (model_type)", "Use the model's original file")
    return ModelFacts(model_type=model_type, parameters=_count_parameters(files, documents.get(INDEX)))


def _count_parameters(files: Mapping[str, Path], index: Mapping[str, Any] | None) -> int:
    weights = {name: path for name, path in files.items() if name.endswith(".safetensors")}
    if index is None and weights.keys() != {WEIGHTS}:
        raise _invalid(f"The model needs exactly {WEIGHTS}, or shards with {INDEX}", "Add the missing file")
    tensors = {name: _tensors(name, path) for name, path in weights.items()}
    held = {tensor.name: name for name, entries in tensors.items() for tensor in entries}
    if index is not None and index.get("weight_map") != held:
        raise _invalid(f"{INDEX} does not describe the shards that are here", "Add every shard, each unchanged")
    return sum(tensor.count for entries in tensors.values() for tensor in entries)


def _tensors(name: str, path: Path) -> tuple[TensorEntry, ...]:
    try:
        return read_tensors(path)
    except ModelError as error:
        raise ModelError(f"{name}: {error}", reason=error.reason, next_step=error.next_step) from None


def _read_json(name: str, path: Path) -> Mapping[str, Any]:
    if path.stat().st_size > _JSON_LIMIT:
        raise _invalid(f"{name} is too large", "Use the model's original file")
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise _invalid(f"{name} is no JSON object", "Use the model's original file")
    return document


def _check_name(name: str) -> None:
    if not is_model_file(name):
        allowed = ", ".join(sorted(JSON_FILES | WORD_LISTS | {WEIGHTS}))
        raise _invalid(f"A model cannot have a file {name[:60]!r}", f"Allowed are {allowed} and numbered shards")


def _invalid(sentence: str, next_step: str) -> ModelError:
    return ModelError(f"{sentence}.", reason=ErrorReason.MODEL_INVALID, next_step=f"{next_step}.")
