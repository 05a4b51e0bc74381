"""One target's run in a process of its own, and what its log says."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fuzz.places import COMMITTED, FINDINGS, GATHERED, write_seeds
from fuzz.target import Target

_INPUT_SECONDS: Final = 20
"""Longest that one input may take; anything slower is a finding."""

_MEMORY_MIB: Final = 2048
_EXECUTIONS: Final = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_ARTIFACT: Final = re.compile(r"Test unit written to (\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one run."""

    executions: int
    new_entries: int
    """Inputs that reached something new."""
    kept: int
    """Inputs in the gathered corpus afterwards."""
    failed: bool
    report: str
    """What was found and how to see it again; empty when nothing was."""


def run_target(target: Target, seconds: int) -> Outcome:
    """Fuzz one target for so many seconds, from its seeds and everything kept so far."""
    gathered, findings = GATHERED / target.name, FINDINGS / target.name
    findings.mkdir(parents=True, exist_ok=True)
    write_seeds(target, gathered)
    before = set(gathered.iterdir())
    log = FINDINGS / f"{target.name}.log"
    status = run_engine(target, log, [f"-max_total_time={seconds}", f"-artifact_prefix={findings}/"], gathered)
    text = log.read_text(encoding="utf-8", errors="replace")
    executions = _EXECUTIONS.search(text)
    after = set(gathered.iterdir())
    return Outcome(
        executions=int(executions[1]) if executions else 0,
        new_entries=len(after - before),
        kept=len(after),
        failed=status != 0,
        report=_describe(target, text, log) if status else "",
    )


def run_engine(target: Target, log: Path, arguments: list[str], *folders: Path) -> int:
    """Run libFuzzer on folders and the committed corpus, all it says going to `log`; return its exit status."""
    command = [
        *(sys.executable, "-m", "fuzz.engine", target.name, *arguments, *_dictionary(target, log.with_suffix(".dict"))),
        *("-print_final_stats=1", f"-timeout={_INPUT_SECONDS}", f"-rss_limit_mb={_MEMORY_MIB}"),
        *map(str, (*folders, COMMITTED / target.name)),
    ]
    (COMMITTED / target.name).mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        return subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode


def _dictionary(target: Target, path: Path) -> list[str]:
    words = sorted({word for chosen in target.formats for word in chosen.words if word})
    path.write_text("".join(f'"{_escaped(word)}"\n' for word in words), encoding="ascii")
    return [f"-dict={path}"] if words else []  # libFuzzer refuses an empty one


def _escaped(word: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word.encode())


def _describe(target: Target, text: str, log: Path) -> str:
    artifact = _ARTIFACT.search(text)
    if artifact is None:
        return f"The run of {target.name} broke off; {log} says how."
    return "\n".join(
        (
            f"A reader of {target.name} broke on {artifact[1]}; {log} has the traceback. See it again, slowly, with:",
            f"    {sys.executable} -m fuzz.replay {target.name} {artifact[1]}",
            f"Once it is mended, keep the input as fuzz/corpus/{target.name}/found-WHAT.",
        )
    )
