"""`db`: the coordinator's database."""

# ruff: noqa: PLC0415 - commands import what they need when they run

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from coordinator.cli.connection import config_option, config_path


@click.group()
def db() -> None:
    """Look after the database."""


@db.command("upgrade")
@config_option
def upgrade(config_file: Path | None) -> None:
    """Bring the database to this version's tables; the daemon must not be running."""
    from coordinator.config import DataFolder, load_config
    from coordinator.data_lock import hold_data_folder
    from coordinator.storage import records_place
    from coordinator.store.sql.store import open_store

    config = load_config(config_path(config_file))
    folder = DataFolder(config.server.data_dir)
    with hold_data_folder(folder):
        asyncio.run(open_store(records_place(config)).close())
    click.echo(f"{config.database.url or folder.database} is up to date.")
