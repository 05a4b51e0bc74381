"""Model folders that are made once and kept: conversions and pretraining that take minutes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

_HOME = Path(os.environ.get("RAVAN_LAB_CACHE", Path.home() / ".cache" / "ravan-lab"))


def made_once(name: str, make: Callable[[Path], None], home: Path = _HOME) -> Path:
    """Return the folder of a name, made if it is not there yet; of several processes that make it, one wins."""
    folder = home / name
    if folder.exists():
        return folder
    home.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=home))
    try:
        make(scratch)
        scratch.rename(folder)
    except OSError:
        # The folder of another process, which is the same, came in between.
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder
