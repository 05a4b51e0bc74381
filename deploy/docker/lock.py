"""`python -m deploy.docker.lock`: write the locks of the images anew, each package with its version and hashes.

Needs `pip install pip-tools`. torch itself is left out: its builds differ by index; the Dockerfiles name its version.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = Path(__file__).parent

EXTRAS: Final[Mapping[str, Sequence[str]]] = {
    "coordinator.lock": ("coordinator", "postgres", "s3", "tracing"),
    "agent.lock": ("edge", "parquet", "postgres", "tracing"),
}
"""What each image installs beside the package's own dependencies."""

_TORCH: Final = re.compile(r"^torch==.*\\\n(?:    --hash=.*\n)+", re.MULTILINE)

BUILD: Final = ("build", "hatchling")
"""What `build.lock` holds."""


def wanted_of(lock: str) -> list[str]:
    """Return the requirements that a lock has to meet; images are Linux."""
    if lock == "build.lock":
        return list(BUILD)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    every = [*project["dependencies"], *(each for name in EXTRAS[lock] for each in extras[name])]
    return sorted({each for each in every if "win32" not in each})


def write_lock(lock: str) -> None:
    """Resolve a lock under the versions of constraints.txt; raise CalledProcessError where that fails."""
    with tempfile.TemporaryDirectory() as scratch:
        wanted = Path(scratch) / "wanted.in"
        wanted.write_text("".join(f"{each}\n" for each in wanted_of(lock)), encoding="utf-8")
        options = "--quiet --generate-hashes --no-header --no-annotate --strip-extras --allow-unsafe"
        places = "--no-emit-index-url --no-emit-trusted-host --no-emit-find-links"
        subprocess.run(
            [
                *(sys.executable, "-m", "piptools", "compile", *options.split(), *places.split()),
                *("--constraint", ROOT / "constraints.txt", "--output-file", FOLDER / lock, wanted),
            ],
            check=True,
        )
    place = FOLDER / lock
    place.write_text(_TORCH.sub("", place.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    for name in (*EXTRAS, "build.lock"):
        print(f"resolving {name} ...", flush=True)
        write_lock(name)
