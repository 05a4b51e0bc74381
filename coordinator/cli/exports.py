"""`export`: the trained model in files, with its lineage beside it."""

# ruff: noqa: PLC0415 - commands import what they need when they run

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from coordinator.cli.connection import Connection, connection_options

if TYPE_CHECKING:
    from coordinator.operator_client import OperatorClient
    from ravan.wire.v1 import operator_service_pb2 as wire


@click.command()
@click.argument("job")
@click.option(
    "--format",
    "layout",
    type=click.Choice(["peft", "heads", "merged"]),
    default="peft",
    show_default=True,
    help="A PEFT LoRA adapter, the trained heads themselves, or the whole model with the heads folded in.",
)
@click.option("--out", metavar="DIR", required=True, type=click.Path(path_type=Path), help="New or empty folder.")
@click.option(
    "--base", metavar="MODEL", help="Where readers of a PEFT adapter find the base model; else the model's name here."
)
@connection_options
def export(connection: Connection, job: str, layout: str, out: Path, base: str | None) -> None:
    """Write the newest version of JOB (id or name) into files."""
    from coordinator.exporting import ExportFormat, Lineage, export_job
    from ravan.codec.plans import decode_plan

    found, state = connection.call(lambda client: _fetch(client, job))
    lineage = Lineage(
        rounds=sum(bool(each.state_digest) for each in found.rounds),
        accuracy=found.accuracy if found.HasField("accuracy") else None,
        exported_at=time.time(),
    )
    files = export_job(decode_plan(found.plan.payload), state, out, ExportFormat(layout), lineage, base)
    click.echo(f"{found.name} after {lineage.rounds} rounds: {', '.join(file.name for file in files)} in {out}.")


async def _fetch(client: OperatorClient, name: str) -> tuple[wire.Job, bytes]:
    """Return a job and the content of its newest version."""
    job = await client.get_job(name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        await client.download_blob(job.state_digest, path)
        return job, path.read_bytes()
