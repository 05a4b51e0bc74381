"""The read-only status page: plain HTML without scripts, readable on a phone; every value is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

STYLESHEET: Final = """
body { font-family: system-ui, sans-serif; margin: 1rem auto; max-width: 60rem; padding: 0 1rem;
       color: #222; background: #fff; }
h1 { font-size: 1.3rem } h2 { font-size: 1.1rem; margin-top: 1.5rem }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .3rem .6rem;
        border-bottom: 1px solid #ddd; } th { font-weight: 600 }
.wrap { overflow-x: auto } .quiet { color: #666 }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } td, th { border-color: #444 }
  .quiet { color: #999 } }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRow:
    """One site on the page."""

    name: str
    state: str
    doing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """One job on the page."""

    name: str
    state: str
    rounds: str
    accuracy: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusFacts:
    """Everything that the page shows."""

    version: str
    addresses: tuple[tuple[str, str], ...]
    """What listens where."""
    sites: tuple[SiteRow, ...]
    jobs: tuple[JobRow, ...]


def render_status(facts: StatusFacts) -> str:
    """Return the page as HTML."""
    sites = _table(("Site", "State", "Doing"), [(row.name, row.state, row.doing) for row in facts.sites])
    jobs = _table(
        ("Job", "State", "Rounds", "Accuracy", ""),
        [(row.name, row.state, row.rounds, row.accuracy, row.message) for row in facts.jobs],
    )
    addresses = ", ".join(f"{escape(name)} {escape(address)}" for name, address in facts.addresses)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Ravan coordinator</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta http-equiv="refresh" content="5">'
        '<link rel="stylesheet" href="/status.css"></head><body>'
        f"<h1>Ravan coordinator {escape(facts.version)}</h1>"
        f'<p class="quiet">{addresses}</p>'
        f"<h2>Jobs</h2>{jobs or '<p>No job yet.</p>'}"
        f"<h2>Sites</h2>{sites or '<p>No site yet.</p>'}"
        "</body></html>\n"
    )


def _table(heads: Sequence[str], rows: Sequence[Iterable[str]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    return f'<div class="wrap"><table><tr>{head}</tr>{body}</table></div>'
