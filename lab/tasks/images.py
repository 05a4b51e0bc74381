"""Images: Fashion-MNIST (Xiao et al. 2017, MIT) with a small ViT, of which the four upper layers are adapted.

Debian's package `dataset-fashion-mnist` brings the files. The images belong to nobody: their
owners are ten random parts.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deploy.examples.textile import write_vit
from lab.federation.shard import Shard
from lab.tasks.kept_layers import KeptLayersTask
from lab.tasks.made_folder import made_once
from lab.tasks.settings import classification
from lab.tasks.task import LabTask
from ravan.data.images import ImageExamples
from ravan.errors import DataError, ErrorReason
from ravan.manifest.plan import Task
from ravan.tasks.loading import load_task_model

FOLDER: Final = Path("/usr/share/datasets/fashion-mnist")
LABELS: Final = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
SIDE: Final = 70
"""Five patches of 14 pixels; the files have 28."""

TRAINED_LAYERS: Final = range(8, 12)
"""Of twelve; below them nothing is trained, so that their outputs are computed once."""

_POOL, _VALIDATION, _TEST = 6000, 1000, 2000
_PIXELS_AT, _LABELS_AT = 16, 8
"""Bytes of the headers of the two kinds of files."""

_ROOM: Final = 1 << 30


def load_images() -> LabTask:
    """Read and scale the images; raise FileNotFoundError, saying how to get them."""
    train, train_labels = read_part(FOLDER, "train")
    test, test_labels = read_part(FOLDER, "t10k")
    pixels = np.concatenate([train[: _POOL + _VALIDATION], test[:_TEST]])
    labels = np.concatenate([train_labels[: _POOL + _VALIDATION], test_labels[:_TEST]]).astype(np.int64)
    settings = classification(Task.IMAGE_CLASSIFICATION, LABELS, image_side=SIDE)
    inner = load_task_model(made_once("vit-small", write_vit), settings)
    layers = tuple(inner.model.get_submodule(f"dinov2.encoder.layer.{i}") for i in range(TRAINED_LAYERS.start))
    task = KeptLayersTask(inner, layers, len(labels), _ROOM)
    whole = task.encode(ImageExamples(pixels=_scale(pixels), label_ids=tuple(labels.tolist()), left_out=0))
    pool, validation, test_rows = np.split(np.arange(len(labels)), [_POOL, _POOL + _VALIDATION])
    return LabTask(
        name="images",
        task=task,
        pool=Shard(whole=whole, rows=pool),
        owners=np.arange(_POOL) % 10,
        labels=labels[:_POOL],
        validation=Shard(whole=whole, rows=validation),
        test=Shard(whole=whole, rows=test_rows),
        targets=tuple(f"layer.{i}.attention.{part}_proj" for i in TRAINED_LAYERS for part in ("q", "v")),
    )


def read_part(folder: Path, name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images (count, 28, 28) and labels of one part of the data set."""
    try:
        pixels = gzip.decompress((folder / f"{name}-images-idx3-ubyte.gz").read_bytes())
        labels = gzip.decompress((folder / f"{name}-labels-idx1-ubyte.gz").read_bytes())
    except FileNotFoundError:
        raise DataError(
            f"{folder} has no images.",
            reason=ErrorReason.DATA_MISSING,
            next_step="On Debian: apt-get install dataset-fashion-mnist",
        ) from None
    return (
        np.frombuffer(pixels, np.uint8, offset=_PIXELS_AT).reshape(-1, 28, 28),
        np.frombuffer(labels, np.uint8, offset=_LABELS_AT),
    )


def _scale(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return them as (count, side, side, 3)."""
    scaled = [np.asarray(Image.fromarray(each).resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for each in grey]
    return np.repeat(np.stack(scaled)[..., None], 3, axis=3)
