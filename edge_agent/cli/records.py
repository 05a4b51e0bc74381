"""`audit` and `support-bundle`: what left this PC, and what helps those who are asked for help."""

# ruff: noqa: PLC0415 - commands import what they need when they run

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_agent.cli.options import config_option, json_option, read_config
from ravan.console import print_json

if TYPE_CHECKING:
    from edge_agent.audit.report import Departure


@click.command()
@config_option
@json_option
def audit(config_path: Path, as_json: bool) -> None:
    """Show every masked update that left this PC: when, for which round, its hash, with whose it was summed.

    An update is noted before its first byte leaves.
    """
    import dataclasses

    from edge_agent.audit.report import read_audit

    report = read_audit(read_config(config_path).agent.state_dir)
    if as_json:
        print_json(dataclasses.asdict(report))
        return
    for departure in report.departures:
        click.echo(_describe(departure))
    if not report.departures:
        click.echo("Nothing has left this PC.")
    if report.heads:
        last = report.heads[-1]
        click.echo(
            f"Witness of the coordinator's audit log: {len(report.heads)} heads, the last at record {last.sequence},"
            f" {last.head}."
        )
    if report.unreadable:
        numbers = ", ".join(map(str, report.unreadable))
        click.echo(f"Lines that are no entries, cut off by a power failure or altered: {numbers}.", err=True)


@click.command("support-bundle")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@config_option
def support_bundle(path: Path, config_path: Path) -> None:
    """Write FILE, a zip for whoever helps: versions, settings, hardware, doctor's report and the last log.

    There are no data, keys, passwords, paths or names of columns in it.
    """
    import asyncio

    from edge_agent.doctor import examine
    from edge_agent.support.bundle import write_bundle

    config = read_config(config_path)
    contents = write_bundle(config, asyncio.run(examine(config)), path)
    click.echo(f"{path} holds {', '.join(contents)}. Look through it before you send it.")
    if not any(name.startswith("logs/") for name in contents):
        click.echo("There is no log in it: set `file` in the [log] table of the configuration to keep one.")


def _describe(departure: Departure) -> str:
    whole = "" if departure.complete else ", perhaps not to its end"
    outcome = departure.outcome or "outcome not known"
    summed = f", summed with {', '.join(departure.survivors)}" if departure.survivors else ", in no sum"
    return (
        f"{departure.time}  {departure.job} round {departure.round}  {departure.bytes} bytes{whole}"
        f"  sha256 {departure.sha256}  {outcome}{summed}"
    )
