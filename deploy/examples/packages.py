"""Models and data that come inside Python packages, of which nothing but the files is used."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def package_folder(module: str) -> Path:
    """Return where an installed package lies, without running it; raise FileNotFoundError, saying how to get it."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"the package of module {module} is not installed; run `make env-examples` first")
    return Path(spec.submodule_search_locations[0])
