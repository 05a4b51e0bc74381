"""The base model on this PC: a folder of links to downloaded blobs, and at most one model in memory."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from edge_agent.hardware.memory import release_unused
from ravan.codec.documents import model_digest
from ravan.manifest.plan import JobPlan, Precision, TrainingSettings
from ravan.tasks.loading import load_task_model
from ravan.tasks.task_model import TaskModel

_LEAST_BYTES: Final = {Precision.FLOAT32: 4, Precision.BFLOAT16: 2, Precision.INT8: 1}
"""Of a weight in memory; under `int8` what belongs to no linear layer takes more."""


def assemble_model_folder(plan: JobPlan, blobs: Mapping[str, Path], root: Path) -> Path:
    """Return a folder under `root` that holds the plan's model files by name, linked to `blobs` (name to path).

    The folder is named by the model's digest and made anew when a blob was fetched again. Blocks on disk.
    """
    folder = root / model_digest(plan.model_files).hex()
    if folder.exists() and all(_is_link(blobs[file.path], folder / file.path) for file in plan.model_files):
        return folder
    root.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=root))
    for file in plan.model_files:
        _link(blobs[file.path].resolve(), draft / file.path)
    if folder.exists():
        shutil.rmtree(folder)
    os.rename(draft, folder)
    return folder


def least_loaded_bytes(plan: JobPlan, blobs: Mapping[str, Path]) -> int:
    """Return what the base model's weights take in memory at least, in the plan's precision. Blocks on disk."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - as slow to import as a model

    width, numbers = _LEAST_BYTES[plan.precision], 0
    for path in (blobs[file.path] for file in plan.model_files if file.path.endswith(".safetensors")):
        # Loading says what is wrong with a damaged file.
        with suppress(SafetensorError), safe_open(path, framework="np") as weights:
            numbers += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    return numbers * width


def _is_link(source: Path, target: Path) -> bool:
    return target.exists() and target.samefile(source)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Some file systems of old PCs know no links; the price is the space of one copy.
        shutil.copyfile(source, target)


class ModelSlot:
    """Keep the last model that was used; old PCs have no room for two."""

    def __init__(self) -> None:
        self._key: tuple[Path, TrainingSettings, Precision] | None = None
        self._task: TaskModel[Any] | None = None

    @property
    def loaded(self) -> bool:
        """Tell whether a model is in memory."""
        return self._task is not None

    def load(self, folder: Path, plan: JobPlan) -> TaskModel[Any]:
        """Return the job's model, loaded unless it is the one that is here; raise ModelError or ConfigError."""
        key = (folder, plan.training, plan.precision)
        if self._task is None or self._key != key:
            self.drop()
            self._task, self._key = load_task_model(*key), key
            release_unused()
        return self._task

    def drop(self) -> None:
        """Forget the model."""
        self._task, self._key = None, None
        release_unused()
