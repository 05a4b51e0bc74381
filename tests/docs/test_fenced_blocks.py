"""Every fenced block of the pages is of a known kind, and what it holds is something that the programs take.

Commands that can be typed beside a running fleet are, in `tests/integration/test_readme.py`; the others are held to
the trees of commands here, to the targets of the Makefile and to the modules of this repository.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from typing import Any

import pytest
from command_trees import find_fault
from shell_blocks import LANGUAGES, ROOT, RUNNING, Block, Handling, commands_in, list_pages, read_blocks

from coordinator.config import CoordinatorFile
from coordinator.jobs.jobfile import read_job_file
from edge_agent.config import AgentFile
from ravan.configuration import read_text

PAGES = list_pages()
COMMANDS = [block for page in PAGES for block in commands_in(page)]
TABLES = [block for page in PAGES for block in read_blocks(page) if block.language == "toml"]
OTHERS = frozenset(
    {
        "cat",
        "cd",
        "chown",
        "cp",
        "do",
        "done",
        "echo",
        "export",
        "for",
        "helm",
        "mkdir",
        "openssl",
        "pip",
        "prometheus",
        "promtool",
        "sha256sum",
        "systemctl",
        "useradd",
    }
)
"""Programs of the system and words of the shell that pages use."""


def name_of(block: Block) -> str:
    return f"{block.page}: {block.text.splitlines()[0][:50]}"


def test_pages_have_blocks_of_known_languages_alone() -> None:
    assert {block.language for page in PAGES for block in read_blocks(page)} <= LANGUAGES


def test_every_fence_is_closed() -> None:
    for page in PAGES:
        fences = re.findall(r"^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
        assert len(fences) == 2 * len(read_blocks(page)), page


def test_every_way_of_handling_is_in_use() -> None:
    assert {block.handling for block in COMMANDS} == set(Handling)


def test_an_unknown_way_of_handling_is_refused() -> None:
    with pytest.raises(ValueError, match="parsed never"):
        _ = Block(page="page.md", info="sh parsed never", text="ravan-agent run\n").handling


@pytest.mark.parametrize("block", COMMANDS, ids=name_of)
def test_commands_are_those_that_there_are(block: Block) -> None:
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True, capture_output=True)
    assert [fault for words in split_commands(block.text) if (fault := find_wrong(words))] == []


def split_commands(text: str) -> list[list[str]]:
    """Return the words of each simple command, without redirections, variables set before it, and here-documents."""
    text = re.sub(r"<<'?(\w+)'?(.*?)\n.*?^\1$", r"\2", text.replace("\\\n", " "), flags=re.MULTILINE | re.DOTALL)
    found: list[list[str]] = []
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in lexer:
            if set(word) <= set("|&;"):
                found.append(words)
                words = []
            else:
                words.append(word)
        found.append(words)
    cut = [words[: next((i for i, word in enumerate(words) if set(word) <= set("<>")), None)] for words in found]
    return [words for words in cut if words]


def find_wrong(words: list[str]) -> str:
    """Return what is wrong with a command; empty where nothing is."""
    program, *rest = words[words[0] == "sudo" :]
    name = program.rpartition("/")[2]
    if name in ("ravan-coordinator", "ravan-agent"):
        return find_fault(name, rest)
    if name == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        return "" if rest[0] in targets else f"no target {rest[0]}"
    if name == "python":
        stem = ROOT.joinpath(*rest[1].split("."))
        return "" if stem.with_suffix(".py").is_file() or (stem / "__main__.py").is_file() else f"no module {rest[1]}"
    if name == "install.sh":
        return "" if (ROOT / "deploy" / "bundle" / name).is_file() else "no installer"
    return "" if name in OTHERS else f"no command {program}"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("ravan-agent run --plain", "--plain"),
        ("ravan-coordinator job explain", "explain"),
        ("ravan-agent predict", "JOB"),
        ("ravan-agent model list too much", "too"),
        ("make world", "world"),
        ("python -m deploy.nothing", "deploy.nothing"),
        ("cat file | frobnicate --all", "frobnicate"),
    ],
)
def test_what_there_is_not_is_noticed(line: str, fault: str) -> None:
    assert any(fault in find_wrong(words) for words in split_commands(line))


def test_pieces_of_a_line_are_told_apart() -> None:
    text = "cd hq && ravan-agent enroll - --dir 'a b' < x.join  # once\ncat > f <<'END'\nmake it\nEND\n"
    assert split_commands(text) == [["cd", "hq"], ["ravan-agent", "enroll", "-", "--dir", "a b"], ["cat"]]


@pytest.mark.parametrize("block", TABLES, ids=name_of)
def test_tables_are_taken_by_their_loaders(block: Block) -> None:
    tables: dict[str, Any] = tomllib.loads(block.text)
    if "job" in tables:
        read_job_file(block.text, source=block.page)
    elif tables.keys() <= AgentFile.model_fields.keys():
        read_text(AgentFile, block.text, source=block.page)
    else:
        read_text(CoordinatorFile, f'[server]\nhosts = ["hq"]\n{block.text}', source=block.page)


def test_objects_are_json() -> None:
    blocks = [block for page in PAGES for block in read_blocks(page) if block.language == "json"]
    assert blocks
    assert all(isinstance(json.loads(block.text), dict) for block in blocks)


def test_most_pages_for_people_at_a_terminal_are_typed() -> None:
    typed = {block.page for block in COMMANDS if block.handling in RUNNING}
    assert {"README.md", "docs/operations.md", "docs/models-at-the-plant.md"} <= typed
