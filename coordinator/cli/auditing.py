"""`audit`: checking and exporting the audit log, on this machine, whether the daemon runs or not."""

# ruff: noqa: PLC0415 - commands import what they need when they run

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from coordinator.cli.connection import config_option, config_path
from ravan.console import EXIT_FAILURE, print_json

if TYPE_CHECKING:
    from coordinator.audit.chain import AuditRecord, Position
    from coordinator.audit.reading import Progress
    from coordinator.audit.verification import Verdict
    from coordinator.config import CoordinatorFile
    from coordinator.store.base import Transaction

_QUIET_S: Final = 2.0
"""After this long, and then as often, a command says how far it is."""

_moment = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])


@click.group()
def audit() -> None:
    """Check the audit log, or export it.

    docs/audit.md says what it proves and what not.
    """


@audit.command()
@click.option(
    "--witness",
    "witnesses",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="What `ravan-agent audit --json` printed at a site; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def verify(config_file: Path | None, witnesses: tuple[Path, ...], as_json: bool) -> None:
    """Look for any record that was altered, removed, added or moved; exit code 1 when there is one.

    A site's copy of the chain's heads shows as well whether the log was written anew with the coordinator's own key.
    """
    from dataclasses import asdict

    from coordinator.audit.reading import read_witness
    from coordinator.config import load_config

    witnessed = [position for path in witnesses for position in read_witness(path.read_bytes(), str(path))]
    verdict = _verify(load_config(config_path(config_file)), witnessed)
    if as_json:
        print_json({**asdict(verdict), "sound": verdict.is_sound})
    else:
        _tell(verdict, witnesses)
    if not verdict.is_sound:
        sys.exit(EXIT_FAILURE)


@audit.command()
@click.option(
    "--from", "begin", type=_moment, metavar="TIME", help="First moment, UTC: 2026-01-31 or 2026-01-31T08:00."
)
@click.option("--to", "end", type=_moment, metavar="TIME", help="First moment that is left out, UTC.")
@click.option("--format", "form", type=click.Choice(["csv", "json"]), default="csv", show_default=True)
@click.option(
    "--out",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="File to write.",
)
@config_option
def export(config_file: Path | None, begin: datetime | None, end: datetime | None, form: str, path: Path) -> None:
    """Write the records of a period to FILE. It does not check them: see `audit verify`."""
    from coordinator.audit.export import ExportFormat, write_export
    from coordinator.config import load_config
    from coordinator.storage import records_place
    from coordinator.store.sql.snapshots import look_into

    place = records_place(load_config(config_path(config_file)))
    first, after = _milliseconds(begin, 0), _milliseconds(end, 1 << 62)
    if first >= after:
        raise click.UsageError("--from has to be before --to.")

    def write(transaction: Transaction) -> int:
        return write_export(path, _within(transaction, first, after), ExportFormat(form))

    count = look_into(place, write)
    click.echo(f"{path} holds {count:,} records.")


def _verify(config: CoordinatorFile, witnessed: list[Position]) -> Verdict:
    from coordinator.audit.reading import verify_log
    from coordinator.config import DataFolder
    from coordinator.enrolment.pki import load_pki
    from coordinator.storage import records_place
    from coordinator.store.sql.snapshots import look_into

    key = load_pki(DataFolder(config.server.data_dir).pki).manifest_key.public_key()
    return look_into(
        records_place(config), lambda transaction: verify_log(transaction, key, witnessed, _progress("checked"))
    )


def _within(transaction: Transaction, first: int, after: int) -> Iterator[AuditRecord]:
    from coordinator.audit.reading import iterate_records

    records = iterate_records(transaction, _progress("read"))
    # A time that is none was written by somebody else; it is shown rather than left out.
    return (record for record in records if not _is_time(record.at_ms) or first <= record.at_ms < after)


def _is_time(at_ms: object) -> bool:
    return isinstance(at_ms, int)


def _milliseconds(moment: datetime | None, otherwise: int) -> int:
    return otherwise if moment is None else round(moment.replace(tzinfo=UTC).timestamp() * 1000)


def _progress(done_word: str) -> Progress:
    said = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() >= said + _QUIET_S:
            said = time.monotonic()
            click.echo(f"{done:,} of {total:,} records {done_word}", err=True)

    return report


def _tell(verdict: Verdict, witnesses: tuple[Path, ...]) -> None:
    for finding in verdict.findings:
        click.echo(finding.sentence)
    if verdict.more_findings:
        click.echo(f"And {verdict.more_findings:,} more.")
    counted = f"{verdict.records:,} records, {verdict.checkpoints:,} checkpoints"
    if not verdict.is_sound:
        click.echo(f"The audit log is not as it was written ({counted}).", err=True)
        click.echo("Keep a copy of the database as it is, and find out who can write to it.", err=True)
        return
    click.echo(f"The audit log is whole: {counted}. Its head is {verdict.head}.")
    if witnesses:
        click.echo(f"All {verdict.witnessed:,} heads of the witnesses lie on it.")
    else:
        click.echo("Whether it was written anew with the key itself shows a site's copy: --witness FILE.")
