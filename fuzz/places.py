"""Where inputs are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fuzz.target import Target

COMMITTED: Final = Path(__file__).parent / "corpus"
"""Small and in version control: what reaches the most code, and every input that once found something."""

GATHERED: Final = Path(__file__).parents[1] / ".fuzz-corpus"
"""Everything that runs on this machine found worth keeping; each run goes on from there."""

FOUND: Final = "found-"
"""Names of committed inputs that once broke a reader begin so; they stay for ever."""

FINDINGS: Final = Path(__file__).parent / "findings"
"""Inputs that broke a reader, with the log of the run that found them."""


def committed_inputs(name: str) -> list[Path]:
    """Return the committed inputs of a target, in order."""
    return sorted((COMMITTED / name).iterdir())


def write_seeds(target: Target, folder: Path) -> None:
    """Write a target's seeds into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, seed in target.seeds().items():
        (folder / name).write_bytes(seed)
