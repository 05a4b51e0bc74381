"""`init`, `serve`, `worker` and `config`: a coordinator's beginning and running."""

# ruff: noqa: PLC0415 - commands import what they need when they run

from __future__ import annotations

import time
from pathlib import Path

import click

from coordinator.cli.authority import own_authority, own_authority_options
from coordinator.cli.connection import config_option, config_path


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--host",
    "hosts",
    required=True,
    multiple=True,
    metavar="NAME",
    help="Name or address of this machine as agents reach it; may be repeated, the first goes into join strings.",
)
@own_authority_options
def init(folder: Path, hosts: tuple[str, ...], ca_certificate: Path | None, ca_key: Path | None) -> None:
    """Make a coordinator's data folder.

    It holds keys, certificates, a database and a commented coordinator.toml.
    """
    from coordinator.founding import found_coordinator

    now = time.time()
    path = found_coordinator(folder, hosts, now=now, authority=own_authority(ca_certificate, ca_key, now=now))
    click.echo(f"Created {folder}: keys in pki/, the database, and {path.name}.")
    click.echo("Keep pki/ secret and backed up: whoever has ca.key can enrol sites.")
    click.echo(f"Next: ravan-coordinator serve --config {path}")


@click.command()
@config_option
def serve(config_file: Path | None) -> None:
    """Run the coordinator until it is told to stop (SIGTERM or Ctrl-C)."""
    from coordinator.daemon.quick_imports import quick_imports

    with quick_imports():
        from coordinator.config import load_config
        from coordinator.daemon.app import run_daemon

    run_daemon(load_config(config_path(config_file)))


@click.command()
@config_option
def worker(config_file: Path | None) -> None:
    """Do heavy work of rounds beside the coordinator until told to stop (SIGTERM or Ctrl-C).

    Any number may run, on any machine that reaches database and data folder. A task in hand is finished first, or given
    back; one whose worker dies is taken by another.
    """
    from coordinator.config import load_config
    from coordinator.work.worker import run_worker

    run_worker(load_config(config_path(config_file)), click.echo)


@click.group()
def config() -> None:
    """Look at the configuration."""


@config.command("check")
@config_option
def check_config(config_file: Path | None) -> None:
    """Read the configuration as the daemon would and say whether it is sound."""
    from coordinator.config import DataFolder, load_config, server_files
    from coordinator.enrolment.pki import load_pki
    from ravan.rpc.otlp import check_tracing

    path = config_path(config_file)
    loaded = load_config(path)
    check_tracing(loaded.tracing)
    load_pki(DataFolder(loaded.server.data_dir).pki, server_files(loaded))
    click.echo(f"{path} is sound. Data folder: {loaded.server.data_dir}")
