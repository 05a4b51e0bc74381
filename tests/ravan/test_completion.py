"""A shell with the completion completes commands and options of both programs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from programs import PROGRAMS, put_on_path


@pytest.fixture
def path(tmp_path: Path) -> str:
    return put_on_path(tmp_path)


def complete(path: str, program: str, *words: str) -> list[str]:
    """What bash would offer for the last of these words."""
    line = (
        f'eval "$({program} completion bash)"; COMP_WORDS=({program} {" ".join(words)} ""); '
        f"COMP_CWORD={len(words) + 1}; _{program.replace('-', '_')}_completion {program}; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", line], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("program", "words", "offered"),
    [
        ("ravan-coordinator", (), {"init", "serve", "job", "completion"}),
        ("ravan-coordinator", ("job",), {"submit", "list", "show", "pause", "resume", "stop"}),
        ("ravan-agent", (), {"enroll", "run", "doctor", "completion"}),
    ],
)
def test_bash_offers_the_commands(path: str, program: str, words: tuple[str, ...], offered: set[str]) -> None:
    assert offered <= set(complete(path, program, *words))


@pytest.mark.parametrize("shell", ["zsh", "fish"])
@pytest.mark.parametrize("program", list(PROGRAMS))
def test_other_shells_get_a_script_of_their_own(path: str, program: str, shell: str) -> None:
    done = subprocess.run(
        [program, "completion", shell], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True
    )
    first, _, script = done.stdout.partition("\n")
    assert first.startswith("# ")
    assert f"{shell}_complete" in script
