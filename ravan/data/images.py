"""Labelled images; the folder that they lie in may be packed into one zip file.

What an image file says about itself is not believed: formats and sizes are limited, nothing is unpacked to disk, and a
name in an archive serves as a label and nothing else. An image that cannot be read is left out and counted.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ravan.data.image_files import IMAGE_SUFFIXES, ImageFiles, open_files
from ravan.data.image_labels import LabelledFile, labelled_files
from ravan.data.labels import LabelIndex
from ravan.data.source import DataSource, nothing_to_learn
from ravan.data.tables import Refuse, raise_refusal

_FORMATS: Final = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
_PIXEL_LIMIT: Final = 100_000_000
"""Most pixels of an image; small files can claim enormous ones."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageExamples:
    """Labelled images, scaled to one size, in the order of their names or of the list of labels."""

    pixels: NDArray[np.uint8] = field(repr=False)
    """(images, side, side, 3): red, green, blue."""
    label_ids: tuple[int, ...] = field(repr=False)
    left_out: int
    """Files left out because they are no image that can be read, or are listed and not there."""

    def __len__(self) -> int:
        return len(self.label_ids)

    def contents(self) -> Iterator[tuple[bytes, object]]:
        """Yield each example's bytes, and its label."""
        yield from ((pixels.tobytes(), label) for pixels, label in zip(self.pixels, self.label_ids, strict=True))

    def choose(self, rows: Sequence[int]) -> ImageExamples:
        """Return those examples alone."""
        return replace(self, pixels=self.pixels[list(rows)], label_ids=tuple(self.label_ids[row] for row in rows))


def read_images(source: DataSource, labels: Sequence[str], side: int) -> ImageExamples:
    """Read all images, each scaled as a whole to `side` x `side` pixels.

    Raise DataError DATA_UNREADABLE for a place without an image or that cannot be read, and DATA_UNKNOWN_LABEL for an
    image whose label is not among `labels`.
    """
    index = LabelIndex(labels)
    pixels: list[NDArray[np.uint8]] = []
    ids: list[int] = []
    left_out = 0
    with open_files(source) as files:
        # All labels are known before the first image is decoded, which takes long.
        for each, label_id in [(each, index.look_up(each.label, each.place)) for each in labelled_files(source, files)]:
            image = _scaled(files, each.name, side) if each.present else None
            if image is None:
                left_out += 1
            else:
                pixels.append(image)
                ids.append(label_id)
    if not pixels:
        raise nothing_to_learn(source.name, f"image that can be read ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return ImageExamples(pixels=np.stack(pixels), label_ids=tuple(ids), left_out=left_out)


def iterate_images(
    source: DataSource, side: int, refuse: Refuse = raise_refusal
) -> Iterator[tuple[LabelledFile, NDArray[np.uint8] | None]]:
    """Yield each image file and, unless it cannot be read, its pixels at this size."""
    with open_files(source) as files:
        for each in labelled_files(source, files, refuse):
            yield each, _scaled(files, each.name, side) if each.present else None


def _scaled(files: ImageFiles, name: PurePosixPath, side: int) -> NDArray[np.uint8] | None:
    try:
        content = files.read(name)
    # Broken and encrypted archives raise whatever they stumble over.
    except Exception:
        return None
    return scale_image(content, side)


def scale_image(content: bytes, side: int) -> NDArray[np.uint8] | None:
    """Return an image file's content as (side, side, 3), None when it cannot be read."""
    from PIL import Image  # noqa: PLC0415 - only jobs with images need it

    try:
        with warnings.catch_warnings():
            # Images above Pillow's own, lower limit are not refused but warned of.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                if image.width * image.height > _PIXEL_LIMIT:
                    return None
                scaled = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    # Decoders of broken files raise whatever they stumble over.
    except Exception:
        return None
    return np.asarray(scaled, np.uint8)
