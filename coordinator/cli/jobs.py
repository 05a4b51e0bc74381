"""`job`: submitting, watching and steering jobs."""

# ruff: noqa: PLC0415 - commands import what they need when they run

from __future__ import annotations

import sys
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coordinator.cli.connection import Connection, connection_options, json_option
from ravan.console import EXIT_FAILURE, print_json

if TYPE_CHECKING:
    from coordinator.operator_client import OperatorClient
    from ravan.wire.v1 import operator_service_pb2 as wire


@click.group()
def job() -> None:
    """Submit, watch and steer jobs."""


@job.command("sample")
def sample_job() -> None:
    """Print a job file with every key and its meaning."""
    from coordinator.jobs.sample import write_sample

    click.echo(write_sample(), nl=False)


@job.command("submit")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@connection_options
def submit_job(connection: Connection, file: Path, as_json: bool) -> None:
    """Check the job FILE against model, fleet and held-out data, and start it."""
    from coordinator.cli.progress import transfer_progress

    click.echo("The coordinator checks the job and looks into the model; this can take a minute ...", err=True)
    with transfer_progress() as progress:
        answer = connection.call(lambda client: client.submit_job(file, progress=progress))
    if as_json:
        print_json({"job_id": answer.job_id, "notes": list(answer.notes)})
        return
    click.echo(f"Job {answer.job_id} is submitted.")
    for note in answer.notes:
        click.echo(f"Note: {note}")
    click.echo(f"Next: ravan-coordinator job show {answer.job_id} --watch")


@job.command("list")
@json_option
@connection_options
def list_jobs(connection: Connection, as_json: bool) -> None:
    """List all jobs, newest first."""
    from coordinator.cli.plain import to_plain
    from coordinator.cli.tables import show_jobs

    jobs = connection.call(lambda client: client.list_jobs())
    if as_json:
        print_json([to_plain(each) for each in jobs])
    else:
        show_jobs(jobs)


@job.command("show")
@click.argument("name", metavar="JOB")
@click.option("--watch", is_flag=True, help="Go on showing until the job ends; exit code 1 if it failed.")
@json_option
@connection_options
def show_job(connection: Connection, name: str, watch: bool, as_json: bool) -> None:
    """Show a job (id or name) with its rounds."""
    from coordinator.cli import tables
    from coordinator.cli.plain import to_plain

    if watch:
        last = connection.call(lambda client: _watch(client, name, as_json))
        if last is None or tables.job_state(last) == "failed":
            sys.exit(EXIT_FAILURE)
        return
    found = connection.call(lambda client: client.get_job(name))
    if as_json:
        print_json(to_plain(found))
    else:
        tables.show_job(found)


@job.command("pause")
@click.argument("name", metavar="JOB")
@connection_options
def pause_job(connection: Connection, name: str) -> None:
    """Start no further rounds of a job."""
    connection.call(lambda client: client.pause_job(name))
    click.echo(f"{name} is paused. To go on: ravan-coordinator job resume {name}")


@job.command("resume")
@click.argument("name", metavar="JOB")
@connection_options
def resume_job(connection: Connection, name: str) -> None:
    """Go on with a paused job."""
    connection.call(lambda client: client.resume_job(name))
    click.echo(f"{name} goes on.")


@job.command("stop")
@click.argument("name", metavar="JOB")
@connection_options
def stop_job(connection: Connection, name: str) -> None:
    """End a job; versions that were committed stay."""
    connection.call(lambda client: client.stop_job(name))
    click.echo(f"{name} is stopped.")


async def _watch(client: OperatorClient, name: str, as_json: bool) -> wire.Job | None:
    from rich.console import Console

    from coordinator.cli.watching import watch_as_json, watch_in_lines, watch_on_terminal

    stream: Any = client.watch_job(name)
    async with aclosing(stream) as views:
        if as_json:
            return await watch_as_json(views)
        console = Console()
        return await (watch_on_terminal(views, console) if console.is_terminal else watch_in_lines(views))
