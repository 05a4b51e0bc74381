"""`events`: what happened at this coordinator, from its audit log."""

# ruff: noqa: PLC0415 - commands import what they need when they run

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from coordinator.cli.connection import config_option, config_path, json_option
from coordinator.cli.durations import Duration, describe_moment

if TYPE_CHECKING:
    from coordinator.audit.chain import AuditKind, AuditRecord
    from coordinator.audit.selection import Selection
    from coordinator.config import CoordinatorFile
    from coordinator.store.base import Transaction

_LOOK_EVERY_S: Final = 1.0

_TIME: Final = "_at_ms"
_HASH: Final = 64
_HASH_SHOWN: Final = 12
"""Hexadecimal digits of a SHA-256, and how many of them people see."""


@click.command()
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Only these, `job_submitted`; may be repeated.")
@click.option(
    "--about", "subject", default="", metavar="NAME", help="Only what a site, job or model is the subject of."
)
@click.option("--by", "actor", default="", metavar="NAME", help="Only what this operator or site did.")
@click.option("--since", type=Duration(), metavar="DURATION", help="Not longer ago than this: 90s, 30m, 24h, 7d.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="The newest so many.")
@click.option("--follow", is_flag=True, help="Go on and show what happens next, until Ctrl-C.")
@json_option
@config_option
def events(
    config_file: Path | None,
    kinds: tuple[str, ...],
    subject: str,
    actor: str,
    since: int | None,
    limit: int,
    follow: bool,
    as_json: bool,
) -> None:
    """Show what happened: sites that enrolled, jobs, rounds, what operators did. On the coordinator's machine.

    It reads the audit log and does not check it: see `audit verify`.
    """
    from coordinator.audit.selection import Selection
    from coordinator.config import load_config

    config = load_config(config_path(config_file))
    since_ms = 0 if since is None else round((time.time() - since) * 1000)
    selection = Selection(kinds=_kinds_of(kinds), subject=subject, actor=actor, since_ms=since_ms)
    found, newest = _read(config, selection, limit, after=0)
    _show(found, as_json=as_json)
    if not found and not follow and not as_json:
        click.echo("Nothing that was asked for has happened.", err=True)
    while follow:
        time.sleep(_LOOK_EVERY_S)
        found, newest = _read(config, selection, limit, after=newest)
        _show(found, as_json=as_json)


def _kinds_of(names: Sequence[str]) -> frozenset[AuditKind]:
    from coordinator.audit.chain import AuditKind

    known = {kind.value: kind for kind in AuditKind}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise click.UsageError(f"There is no kind '{unknown[0]}'. There are: {', '.join(known)}.")
    return frozenset(known[name] for name in names)


def _read(config: CoordinatorFile, selection: Selection, limit: int, *, after: int) -> tuple[list[AuditRecord], int]:
    """Return the newest records of the selection after a number, and the newest number there is."""
    from coordinator.audit.selection import select_records
    from coordinator.storage import records_place
    from coordinator.store.sql.snapshots import look_into

    def look(transaction: Transaction) -> tuple[list[AuditRecord], int]:
        seal = transaction.get_audit_seal()
        found = select_records(transaction, selection, limit, after=after)
        return found, after if seal is None else seal.sequence

    return look_into(records_place(config), look)


def _show(records: Sequence[AuditRecord], *, as_json: bool) -> None:
    for record in records:
        click.echo(json.dumps(asdict(record), sort_keys=True) if as_json else _describe(record))


def _describe(record: AuditRecord) -> str:
    """Return a record as a line; what was written by somebody else is shown as it is."""
    at = describe_moment(record.at_ms / 1000) if isinstance(record.at_ms, int) else str(record.at_ms)
    try:
        facts = " ".join(_say_fact(name, value) for name, value in json.loads(record.facts).items())
    except (ValueError, TypeError, AttributeError):
        facts = str(record.facts)
    actor = ":".join(str(record.actor).split(":")[:2])
    return " ".join(each for each in (at, str(record.kind), str(record.subject), f"by {actor}", facts) if each)


def _say_fact(name: str, value: object) -> str:
    if name.endswith(_TIME) and isinstance(value, int):
        return f"{name.removesuffix(_TIME)}='{describe_moment(value / 1000)}'"
    return f"{name}={_short(value)}"


def _short(value: object) -> str:
    """Return a hash by its beginning: the whole of it is in `--json`."""
    text = str(value)
    return f"{text[:_HASH_SHOWN]}..." if len(text) == _HASH and not set(text) - set("0123456789abcdef") else text
