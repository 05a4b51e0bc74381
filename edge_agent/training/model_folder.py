"""The base model's files on this PC: a folder of links to downloaded blobs."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from ravan.codec.documents import model_digest
from ravan.manifest.plan import JobPlan, Precision

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


def least_loaded_bytes(plan: JobPlan, folder: Path) -> int:
    """Return what the base model's weights take in memory at least, in the plan's precision. Blocks on disk."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - as slow to import as a model

    width, numbers = _LEAST_BYTES[plan.precision], 0
    for path in (folder / file.path for file in plan.model_files if file.path.endswith(".safetensors")):
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
