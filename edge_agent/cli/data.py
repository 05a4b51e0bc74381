"""Commands about this site's data."""

# ruff: noqa: PLC0415 - `--help` loads neither gRPC nor torch

from __future__ import annotations

import sys
from pathlib import Path

import click

from edge_agent.cli.options import config_option, json_option, read_config
from ravan.console import EXIT_FAILURE, print_json
from ravan.errors import ConfigError, ErrorReason


@click.group()
def data() -> None:
    """Look at this site's data."""


@data.command("check")
@click.argument("name", required=False)
@config_option
@json_option
@click.option("--job-labels", metavar="A,B,...", default="", help="The job's labels, to find rows with others.")
@click.option("--job-channels", metavar="A,B,...", default="", help="Series: the model's channels, to find gaps.")
def data_check(name: str | None, config_path: Path, as_json: bool, job_labels: str, job_channels: str) -> None:
    """Read the data NAME, or all, and say what a job would find: counts by label and faulty rows, no contents.

    Ends with an error where this PC could not take part.
    """
    import dataclasses

    from edge_agent.data.inspection import inspect_data
    from edge_agent.data.report import Expectation, describe_report

    loaded = read_config(config_path)
    if not loaded.data:
        raise ConfigError(
            f"{config_path} names no data.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="Add a [data.NAME] table; the comments in the file show how.",
        )
    expected = Expectation(labels=_listed(job_labels), channels=_listed(job_channels))
    names = loaded.data if name is None else (name,)
    reports = {each: inspect_data(loaded, each, expected) for each in names}
    if as_json:
        print_json({each: dataclasses.asdict(report) for each, report in reports.items()})
    else:
        for each, report in reports.items():
            click.echo("\n".join(describe_report(each, report, expected)))
    if any(report.obstacle for report in reports.values()):
        sys.exit(EXIT_FAILURE)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in text.split(",") if each.strip())
