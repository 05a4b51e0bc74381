"""Files in a folder, or in a zip file of it, of which nothing is unpacked to disk."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

from ravan.data.source import DataSource, cannot_open, unreadable

IMAGE_SUFFIXES: Final = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_FILE_LIMIT: Final = 64 << 20
"""Most bytes of a file."""


class ImageFiles(Protocol):
    """Image files by name, and what lies beside them."""

    def names(self) -> list[PurePosixPath]:
        """Return the names of all image files, sorted."""
        ...

    def read(self, name: PurePosixPath) -> bytes:
        """Return a file's content, empty when it is too large; raise OSError or zipfile.BadZipFile."""
        ...


@contextmanager
def open_files(source: DataSource) -> Iterator[ImageFiles]:
    """Open a folder or zip file; raise DataError DATA_UNREADABLE for what is neither."""
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
        raise cannot_open(source.name, error) from None


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
        if name not in self._entries:
            raise FileNotFoundError(2, "No such file in it")
        with self._archive.open(self._entries[name]) as file:
            content = file.read(_FILE_LIMIT + 1)
        return content if len(content) <= _FILE_LIMIT else b""
