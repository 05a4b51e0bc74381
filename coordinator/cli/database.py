"""`db`: the coordinator's records, and backups of them."""

# ruff: noqa: PLC0415 - commands import what they need when they run

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from coordinator.cli.connection import config_option, config_path

if TYPE_CHECKING:
    from coordinator.backup.restoration import Restored


@click.group()
def db() -> None:
    """Look after the database."""


@db.command("upgrade")
@config_option
def upgrade(config_file: Path | None) -> None:
    """Bring the database to this version's tables; the daemon must not be running."""
    from coordinator.config import DataFolder, load_config
    from coordinator.daemon.data_lock import hold_data_folder_alone
    from coordinator.storage import records_place
    from coordinator.store.sql.store import open_store

    config = load_config(config_path(config_file))
    folder = DataFolder(config.server.data_dir)
    with hold_data_folder_alone(folder):
        asyncio.run(open_store(records_place(config)).close())
    click.echo(f"{config.database.url or folder.database} is up to date.")


@db.command("backup")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--blobs/--no-blobs",
    "with_blobs",
    default=None,
    help="With models and versions, or the records alone. Without this option: with them, unless they are in a bucket.",
)
@config_option
def backup(config_file: Path | None, file: Path, with_blobs: bool | None) -> None:
    """Write a backup into FILE while the daemon runs; keys and configuration are not in it."""
    from coordinator.backup.archive import write_backup
    from coordinator.config import DataFolder, load_config
    from coordinator.enrolment.pki import load_pki
    from coordinator.storage import open_blobs, records_place

    config = load_config(config_path(config_file))
    key = load_pki(DataFolder(config.server.data_dir).pki).manifest_public
    blobs = open_blobs(config) if with_blobs or (with_blobs is None and not config.objects.bucket) else None
    write_backup(file, records_place(config), blobs, manifest_key=key, taken_at=time.time())
    what = "records, models and versions" if blobs is not None else "the records, without models and versions"
    click.echo(f"{file} holds {what}: {file.stat().st_size / 1e6:,.1f} MB. Keep it as secret as the data folder.")


@db.command("restore")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--replace", "replacing", is_flag=True, help="Replace the records that are there.")
@config_option
def restore(config_file: Path | None, file: Path, replacing: bool) -> None:
    """Put a backup back; the daemon must not be running. Jobs that go on do so under new run ids."""
    from coordinator.backup.restoration import restore_backup
    from coordinator.config import load_config

    restored = restore_backup(load_config(config_path(config_file)), file, replacing=replacing, now=time.time())
    for sentence in _describe(restored):
        click.echo(sentence)


def _describe(restored: Restored) -> tuple[str, ...]:
    taken = time.strftime("%Y-%m-%d %H:%M", time.localtime(restored.taken_at))
    sentences = [f"Restored the backup of {taken}: {restored.sites} sites, {restored.jobs} jobs."]
    if restored.going_on:
        sentences.append(f"Under a new run id: {', '.join(restored.going_on)}. Sites prepare it again by themselves.")
    if restored.incomplete:
        sentences.append(f"Paused, since blobs are missing: {', '.join(restored.incomplete)}.")
    if not restored.knew_fleet:
        sentences.append("Sites revoked since then count again: see `site list`, and revoke them once more.")
    sentences.append("Join strings that were open are void; make new ones with `token create`.")
    return tuple(sentences)
