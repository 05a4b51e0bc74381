"""`model`: taking in base models."""

# ruff: noqa: PLC0415 - commands import what they need when they run

from __future__ import annotations

from pathlib import Path

import click

from coordinator.cli.connection import Connection, connection_options, json_option
from ravan.console import print_json


@click.group()
def model() -> None:
    """Take in and list base models."""


@model.command("add")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", required=True, metavar="NAME", help="Name for job files.")
@json_option
@connection_options
def add_model(connection: Connection, folder: Path, name: str, as_json: bool) -> None:
    """Upload the base model in DIR, each file checked and hashed.

    What is taken are safetensors, JSON and tokenizer files; what is left behind is said.
    """
    from coordinator.cli.plain import to_plain
    from coordinator.cli.progress import transfer_progress
    from coordinator.jobs.models import collect_model_folder

    for ignored in collect_model_folder(folder).ignored:
        click.echo(f"Left behind: {ignored}", err=True)
    with transfer_progress() as progress:
        added = connection.call(lambda client: client.add_model(folder, name, progress))
    if as_json:
        print_json(to_plain(added))
    else:
        click.echo(f"{added.name}: {added.model_type}, {added.parameters:,} parameters, {len(added.files)} files.")


@model.command("list")
@json_option
@connection_options
def list_models(connection: Connection, as_json: bool) -> None:
    """List the base models."""
    from coordinator.cli.plain import to_plain
    from coordinator.cli.tables import show_models

    models = connection.call(lambda client: client.list_models())
    if as_json:
        print_json([to_plain(each) for each in models])
    else:
        show_models(models)
