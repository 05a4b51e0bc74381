"""Folders of images, packed into a zip file by whoever sends them."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from PIL import Image

from fuzz.target import Format, Target, require
from ravan.data.images import read_images
from ravan.data.source import DataSource
from ravan.errors import DataError, ErrorReason

_LABELS: Final = ("worn", "sound")
_SIDE: Final = 4


def _read(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photos"
        path.write_bytes(data)
        examples = read_images(DataSource(path=path, name="photos"), _LABELS, _SIDE)
        require(list(Path(folder).iterdir()) == [path], "something was unpacked to disk")
    require(examples.pixels.shape == (len(examples), _SIDE, _SIDE, 3), "the images are not of one size")
    require(len(examples) > 0, "there is no image")
    require(all(0 <= label < len(_LABELS) for label in examples.label_ids), "a label is out of range")


def _archives() -> Iterable[bytes]:
    for kind in ("BMP", "JPEG", "PNG", "TIFF", "WEBP"):
        image, archive = io.BytesIO(), io.BytesIO()
        Image.new("RGB", (3, 2), (200, 10, 40)).save(image, kind)
        with zipfile.ZipFile(archive, "w") as file:
            # Not compressed, so that the fuzzer reaches the image's own bytes; of one date, so that they stay the same.
            file.writestr(zipfile.ZipInfo(f"worn/a.{kind.lower()}"), image.getvalue())
        yield archive.getvalue()


IMAGES: Final = Target(
    name="images",
    formats=(Format(name="zip", read=_read, seeds=_archives),),
    refusals={DataError: frozenset({ErrorReason.DATA_UNREADABLE, ErrorReason.DATA_UNKNOWN_LABEL})},
)
