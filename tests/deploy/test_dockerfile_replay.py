"""What the Dockerfiles do to build, done again in folders of this machine: each RUN, each COPY, each ENV, in order."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = ("/opt/ravan", "/build", "/usr/local/bin")
"""What the Dockerfiles write to, besides the user's home."""


@dataclass
class Replay:
    """One stage after the other, below a folder that stands for the root."""

    root: Path
    environment: dict[str, str]
    workdir: Path
    ran: list[str] = field(default_factory=list)

    def move(self, text: str) -> str:
        """Have a command speak of the folder instead of the root."""
        for place in PLACES:
            text = re.sub(rf"(?<![\w.-]){place}(?=[/ \"':]|$)", f"{self.root}{place}", text)
        return text

    def run(self, command: str) -> None:
        if command.startswith("groupadd"):
            return  # users are the image's alone
        subprocess.run(
            ["sh", "-e", "-c", self.move(command)],
            cwd=self.workdir,
            env=self.environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        self.ran.append(command)

    def copy(self, words: list[str]) -> None:
        options = [word for word in words if word.startswith("--")]
        *sources, target = [word for word in words if not word.startswith("--")]
        if any(option.startswith("--from=") for option in options):
            return  # both stages lie below the same root here
        place = Path(self.move(target)) if target.startswith("/") else self.workdir / target
        for source in sources:
            origin = ROOT / source
            if origin.is_dir():
                shutil.copytree(origin, place, ignore=shutil.ignore_patterns("__pycache__"))
                continue
            into = place / origin.name if target.endswith("/") else place
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(origin, into)
            if "--chmod=0755" in options:
                into.chmod(0o755)

    def set(self, words: list[str]) -> None:
        for word in words:
            name, _, value = word.partition("=")
            self.environment[name] = self.move(value).replace("$PATH", self.environment["PATH"])


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Each instruction with what follows it; continued lines are one."""
    text = re.sub(r"\\\n\s*", " ", dockerfile.read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def replay(image: str, root: Path) -> Replay:
    kept = {name: os.environ[name] for name in os.environ if not name.startswith(("RAVAN_", "PYTHON", "VIRTUAL_ENV"))}
    stage = Replay(root=root, environment={**kept, "HOME": str(root)}, workdir=root)
    for kind, rest in instructions(ROOT / "deploy" / "docker" / f"{image}.Dockerfile"):
        match kind:
            case "RUN":
                stage.run(rest)
            case "COPY":
                stage.copy(rest.split())
            case "ENV" | "ARG":
                stage.set(shlex.split(rest))
            case "WORKDIR":
                stage.workdir = Path(stage.move(rest))
                stage.workdir.mkdir(parents=True)
            case "FROM" | "USER" | "VOLUME" | "EXPOSE" | "HEALTHCHECK" | "ENTRYPOINT":
                continue
            case _:
                raise AssertionError(f"{kind} is not replayed")
    return stage


@pytest.mark.slow
@pytest.mark.parametrize(("image", "program"), [("coordinator", "ravan-coordinator"), ("agent", "ravan-agent")])
def test_the_commands_make_a_program_that_runs(tmp_path: Path, image: str, program: str) -> None:
    stage = replay(image, tmp_path)
    assert sum("--require-hashes" in command for command in stage.ran) == 1
    environment = {**stage.environment, "RAVAN_FOLDER": str(tmp_path / "data")}

    def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(arguments, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert shutil.which(program, path=environment["PATH"]) == str(tmp_path / "opt" / "ravan" / "bin" / program)
    shown = ask(program, "--version")
    assert (shown.returncode, shown.stdout.split()[0]) == (0, program)
    inside = ask("python", "-c", "import torch, transformers, cryptography; print(torch.__version__)")
    assert inside.returncode == 0, inside.stderr
    assert ask("python", "-m", "pip", "check").returncode == 0
    if image == "coordinator":
        made = ask("ravan-coordinator", "init", str(tmp_path / "data"), "--host", "localhost")
        assert made.returncode == 0, made.stderr
    assert os.access(tmp_path / "usr" / "local" / "bin" / f"{image}-start", os.X_OK)
