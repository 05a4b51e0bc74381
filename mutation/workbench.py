"""A copy of the tree in which one file at a time is changed and tests are run.

Each run is a fork of this process, which has imported what all tests need and nothing of the product:
a second saved a thousand times. Limits of the operating system end a change that never ends.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

import cryptography.hazmat.primitives.asymmetric.ed25519
import cryptography.hazmat.primitives.asymmetric.x25519
import cryptography.hazmat.primitives.ciphers.aead
import cryptography.hazmat.primitives.kdf.hkdf
import hypothesis.internal.conjecture.engine
import hypothesis.strategies
import numpy
import pytest

ROOT: Final = Path(__file__).resolve().parent.parent

_COPIED: Final = ("ravan", "coordinator", "edge_agent", "deploy", "tests", "proto", "pyproject.toml")
_CPU_S: Final = 120
_MEMORY: Final = 16 << 30
_OPTIONS: Final = (
    "-x",
    "--quiet",
    "--tb=no",
    "--timeout=60",
    "--hypothesis-seed=0",
    *("-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:xdist"),
    # Hypothesis was imported before pytest could look into it; nothing in it needs that.
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
)
_PRELOADED: Final = (cryptography, hypothesis, numpy)


class Verdict(Enum):
    """What the tests said of a change."""

    KILLED = "killed"
    SURVIVED = "survived"


class NoVerdictError(Exception):
    """Pytest did not run the tests, for instance since it does not know them."""


@dataclass(frozen=True, slots=True)
class Workbench:
    """A copy of the tree."""

    folder: Path

    @contextmanager
    def changed(self, path: str, text: str) -> Iterator[None]:
        """Put `text` into a file for a while."""
        file = self.folder / path
        before = file.read_bytes()
        file.write_text(text, encoding="utf-8")
        try:
            yield
        finally:
            file.write_bytes(before)

    def judge(self, tests: Sequence[str]) -> Verdict:
        """Run tests until one fails; raise NoVerdictError when there is none to run."""
        child = os.fork()
        if child == 0:
            _run(self.folder, tests)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code in {pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED}:
            raise NoVerdictError(f"pytest knows no such tests: {' '.join(tests)}")
        # Whatever else is not a pass shows the change, down to a limit of the system that ended the run.
        return Verdict.SURVIVED if code == pytest.ExitCode.OK else Verdict.KILLED


@contextmanager
def workbench() -> Iterator[Workbench]:
    """Make a copy of the tree that goes away afterwards."""
    with tempfile.TemporaryDirectory(prefix="ravan-mutation-") as folder:
        for name in _COPIED:
            source, target = ROOT / name, Path(folder) / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns(".hypothesis", ".venv"))
            else:
                shutil.copy2(source, target)
        yield Workbench(Path(folder))


def _run(folder: Path, tests: Sequence[str]) -> None:
    """Be the child: run the tests in silence and end the process."""
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nothing, stream.fileno())
    # A changed file of the same size within the same second would be taken for what was compiled before.
    sys.dont_write_bytecode = True
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    os._exit(pytest.main([*_OPTIONS, *tests]))
