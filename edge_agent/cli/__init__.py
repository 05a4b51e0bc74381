"""The command line `ravan-agent`.

Commands import what they need when they run: `--help` loads neither gRPC nor torch.
"""

from __future__ import annotations

import sys

import click

from edge_agent.cli.daemon import config, doctor, probe, run
from edge_agent.cli.data import data
from edge_agent.cli.membership import enroll, leave, trust
from edge_agent.cli.ownership import owner
from edge_agent.cli.records import audit, support_bundle
from edge_agent.cli.services import service
from edge_agent.cli.serving import model, personalise, predict, serve_model
from edge_agent.cli.sites import identity, site
from ravan.completion import completion_of
from ravan.console import run_command
from ravan.version import VERSION


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="ravan-agent", message="%(prog)s %(version)s")
def cli() -> None:
    """Let this PC take part in federated fine-tuning; its data never leave it.

    Begin with `ravan-agent enroll JOIN_STRING --dir DIR`, then `ravan-agent run`.
    """


for command in (
    run,
    probe,
    config,
    data,
    site,
    identity,
    doctor,
    enroll,
    owner,
    leave,
    trust,
    audit,
    service,
    support_bundle,
    predict,
    serve_model,
    personalise,
    model,
    completion_of("ravan-agent"),
):
    cli.add_command(command)


def main() -> None:
    """Run the command line; errors end as one sentence and what to do next."""
    run_command(lambda: cli(prog_name="ravan-agent"), as_json="--json" in sys.argv[1:])
