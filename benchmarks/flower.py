"""Flower in an environment of its own, and the process that runs its side of a comparison."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.results import say

FLOWER: Final = "flwr==1.41.0"
ENVIRONMENT: Final = Path(".venv-flower")
SCRIPT: Final = Path(__file__).with_name("flower_side.py")


def build_environment() -> Path:
    """Install Flower beside the product's environment, once, and return its interpreter."""
    python = ENVIRONMENT / "bin" / "python"
    stamp = ENVIRONMENT / FLOWER
    if not stamp.exists():
        say(f"Installing {FLOWER} into {ENVIRONMENT} ...")
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", FLOWER], check=True)
        stamp.touch()
    return python


class FlowerProcess:
    """Flower's side, which waits for its turn before every measured part."""

    def __init__(self, vectors: Path, *, dropped: int, clients: int, server_runs: int, result: Path) -> None:
        """Start it; nothing is measured until `advance`."""
        arguments = [str(vectors), str(dropped), str(clients), str(server_runs), str(result)]
        self._process = subprocess.Popen(
            [str(build_environment()), str(SCRIPT), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def advance(self, told: Callable[[dict[str, Any]], None]) -> dict[str, Any] | None:
        """Let it go on to the next turn and return that, or None at its end; other lines are `told`."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("Flower's process has no pipes.")
        for line in self._process.stdout:
            facts = json.loads(line)
            if "turn" in facts:
                return dict(facts)
            told(facts)
        if self._process.wait():
            raise RuntimeError("Flower's side failed; its own words are above.")
        return None

    def go(self) -> None:
        """Give it the turn it waits for."""
        if self._process.stdin is None:
            raise RuntimeError("Flower's process has no pipes.")
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def stop(self) -> None:
        """End the process if it still runs."""
        self._process.kill()
        self._process.wait()
