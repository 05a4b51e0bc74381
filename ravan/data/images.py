"""Images in folders that are named like their labels; the folder of folders may be packed into one zip file.

What an image file says about itself is not believed: formats and sizes are limited, nothing is unpacked to disk, and a
name in an archive serves as a label and nothing else. An image that cannot be read is left out and counted.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ravan.data.labels import LabelIndex, printable
from ravan.data.source import DataSource, nothing_to_learn, unreadable

IMAGE_SUFFIXES: Final = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_FORMATS: Final = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
_FILE_LIMIT: Final = 64 << 20
"""Most bytes of an image file."""
_PIXEL_LIMIT: Final = 100_000_000
"""Most pixels of an image; small files can claim enormous ones."""
_SHOWN_NAME: Final = 200
"""Most characters of a file's name that a sentence repeats."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageExamples:
    """Labelled images, scaled to one size, in the order of their names."""

    pixels: NDArray[np.uint8] = field(repr=False)
    """(images, side, side, 3): red, green, blue."""
    label_ids: tuple[int, ...] = field(repr=False)
    left_out: int
    """Files left out because they are no image that can be read."""

    def __len__(self) -> int:
        return len(self.label_ids)


class ImageFiles(Protocol):
    """Image files by name."""

    def names(self) -> list[PurePosixPath]:
        """Return the names of all image files, sorted."""
        ...

    def read(self, name: PurePosixPath) -> bytes:
        """Return a file's content, empty when it is too large; raise OSError or zipfile.BadZipFile."""
        ...


def read_images(source: DataSource, labels: Sequence[str], side: int) -> ImageExamples:
    """Read all images, each scaled as a whole to `side` x `side` pixels.

    Raise DataError DATA_UNREADABLE for a place without an image or that cannot be read, and DATA_UNKNOWN_LABEL for an
    image in a folder whose name is not among `labels`.
    """
    index = LabelIndex(labels)
    pixels: list[NDArray[np.uint8]] = []
    ids: list[int] = []
    left_out = 0
    with _open_files(source) as files:
        names = files.names()
        # All labels are known before the first image is decoded, which takes long.
        for name, label_id in [(name, index.look_up(name.parent.name, _place(source, name))) for name in names]:
            image = _scaled(files, name, side)
            if image is None:
                left_out += 1
            else:
                pixels.append(image)
                ids.append(label_id)
    if not pixels:
        raise nothing_to_learn(source.name, f"image that can be read ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return ImageExamples(pixels=np.stack(pixels), label_ids=tuple(ids), left_out=left_out)


def iterate_images(source: DataSource) -> Iterator[tuple[str, bool]]:
    """Yield (label, whether it can be read) for each image file."""
    with _open_files(source) as files:
        for name in files.names():
            yield name.parent.name, _scaled(files, name, 1) is not None


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> list[PurePosixPath]:
        files = (path for path in self._root.rglob("*") if path.is_file())
        found = (PurePosixPath(path.relative_to(self._root).as_posix()) for path in files)
        return sorted(name for name in found if name.suffix.lower() in IMAGE_SUFFIXES)

    def read(self, name: PurePosixPath) -> bytes:
        path = self._root / name
        return path.read_bytes() if path.stat().st_size <= _FILE_LIMIT else b""


class _Archive:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._entries = {PurePosixPath(entry.filename): entry for entry in archive.infolist() if not entry.is_dir()}

    def names(self) -> list[PurePosixPath]:
        return sorted(name for name in self._entries if name.suffix.lower() in IMAGE_SUFFIXES)

    def read(self, name: PurePosixPath) -> bytes:
        with self._archive.open(self._entries[name]) as file:
            content = file.read(_FILE_LIMIT + 1)
        return content if len(content) <= _FILE_LIMIT else b""


def _place(source: DataSource, name: PurePosixPath) -> str:
    return f"{source.name}, {printable(str(name), _SHOWN_NAME)},"


@contextmanager
def _open_files(source: DataSource) -> Iterator[ImageFiles]:
    try:
        if source.path.is_dir():
            yield _Folder(source.path)
        else:
            with zipfile.ZipFile(source.path) as archive:
                yield _Archive(archive)
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        raise unreadable(
            f"{source.name} is neither a folder nor a sound zip file.",
            "Give the folder whose folders are named like the labels, or that folder as a zip file.",
        ) from None
    except OSError as error:
        raise unreadable(
            f"{source.name} cannot be opened: {error.strerror}.",
            "Check the path and that the program's user may read it.",
        ) from None


def _scaled(files: ImageFiles, name: PurePosixPath, side: int) -> NDArray[np.uint8] | None:
    """Return an image as (side, side, 3), None when it cannot be read."""
    from PIL import Image  # noqa: PLC0415 - only jobs with images need it

    try:
        with warnings.catch_warnings():
            # Images above Pillow's own, lower limit are not refused but warned of.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(files.read(name)), formats=_FORMATS) as image:
                if image.width * image.height > _PIXEL_LIMIT:
                    return None
                scaled = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    # Decoders of broken files raise whatever they stumble over.
    except Exception:
        return None
    return np.asarray(scaled, np.uint8)
