"""A file that tells whether it is as it was written: SHA-256 of its content, then the content."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from ravan.identity.keyfiles import write_private

_DIGEST_BYTES: Final = hashlib.sha256().digest_size


def write_hashed(path: Path, content: bytes) -> None:
    """Replace a file, readable by its owner alone; raise ResourceError (DISK_FULL). Blocks."""
    write_private(path, hashlib.sha256(content).digest() + content)


def read_hashed(path: Path) -> bytes | None:
    """Return what was written; None when there is no such file, or it is damaged. Blocks."""
    try:
        whole = path.read_bytes()
    except FileNotFoundError:
        return None
    content = whole[_DIGEST_BYTES:]
    return content if hashlib.sha256(content).digest() == whole[:_DIGEST_BYTES] else None
