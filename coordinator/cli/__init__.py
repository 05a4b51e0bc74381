"""The command line `ravan-coordinator`.

Commands import what they need when they run: `--help` loads neither gRPC nor pydantic nor SQLAlchemy.
"""

from __future__ import annotations

import sys

import click

from coordinator.cli.auditing import audit
from coordinator.cli.authority import ca
from coordinator.cli.daemon import config, init, serve, worker
from coordinator.cli.database import db
from coordinator.cli.events import events
from coordinator.cli.exports import export
from coordinator.cli.jobs import job
from coordinator.cli.models import model
from coordinator.cli.operators import operator
from coordinator.cli.sites import site, token
from ravan.completion import completion_of
from ravan.console import run_command
from ravan.version import VERSION


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="ravan-coordinator", message="%(prog)s %(version)s")
def cli() -> None:
    """Coordinate the federated fine-tuning of a transformer across sites.

    Begin with `ravan-coordinator init DIR --host NAME`, then `ravan-coordinator serve`.
    """


for command in (
    init,
    serve,
    worker,
    config,
    db,
    ca,
    operator,
    token,
    site,
    model,
    job,
    export,
    audit,
    events,
    completion_of("ravan-coordinator"),
):
    cli.add_command(command)


def main() -> None:
    """Run the command line; errors end as one sentence and what to do next."""
    run_command(lambda: cli(prog_name="ravan-coordinator"), as_json="--json" in sys.argv[1:])
