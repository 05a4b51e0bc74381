"""Small images, and folders of them packed into zip files."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from PIL import Image


def plain_image(colour: tuple[int, int, int], size: tuple[int, int] = (4, 4), kind: str = "PNG") -> bytes:
    """Return an image of one colour; `size` is (width, height)."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


def bilevel_png(width: int, height: int) -> bytes:
    """Return a sound black PNG of one bit a pixel, some kilobytes whatever its size."""
    rows = zlib.compress(bytes(1 + (width + 7) // 8) * height, 9)
    header = struct.pack(">2L5B", width, height, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    framed = (struct.pack(">L", len(d)) + k + d + struct.pack(">L", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def write_folder(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def write_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path
