"""Fenced blocks of the pages: what kinds there are, and what is done with the commands of each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
LANGUAGES: Final = frozenset({"sh", "toml", "json", "yaml", "text", "mermaid"})

_FENCE: Final = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Handling(StrEnum):
    """What a test does with a block of commands, as its fence says after `sh`; `parsed` gives the reason."""

    RUN = ""
    """Typed into a shell beside a coordinator and agents that run."""
    BACKGROUND = "background"
    """Started, and left running while the blocks after it are typed."""
    MINUTES = "parsed minutes"
    """Takes minutes, or builds an environment."""
    NETWORK = "parsed network"
    """Needs a package index or another machine."""
    ROOT = "parsed root"
    """Changes the system: users, services, other programs' folders."""
    DATA = "parsed data"
    """Asks for data of a kind that the running plants have not."""
    DAEMON = "parsed daemon"
    """Does not end, or has to be alone on a data folder; tests of its own start it."""


RUNNING: Final = frozenset({Handling.RUN, Handling.BACKGROUND})


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: str
    """Relative to the repository."""
    info: str
    text: str

    @property
    def language(self) -> str:
        return self.info.partition(" ")[0]

    @property
    def handling(self) -> Handling:
        """Return what is done with its commands; raise ValueError for a word that is none of ours."""
        return Handling(self.info.partition(" ")[2])


def list_pages() -> list[str]:
    """Return all pages with commands or examples: the READMEs and what is under `docs/`."""
    pages = [*ROOT.glob("README*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(page.relative_to(ROOT).as_posix() for page in pages)


def read_blocks(page: str) -> list[Block]:
    """Return all fenced blocks of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [Block(page=page, info=info, text=body) for info, body in _FENCE.findall(text)]


def commands_in(page: str) -> list[Block]:
    """Return the blocks that a person types into a shell."""
    return [block for block in read_blocks(page) if block.language == "sh"]
