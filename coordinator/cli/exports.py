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
    from coordinator.export.exporting import Lineage
    from coordinator.operator_client import OperatorClient
    from ravan.manifest.plan import JobPlan
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
@click.option(
    "--rank",
    type=click.IntRange(min=1),
    help="Cut a PEFT adapter to this rank, and measure what that costs on the held-out data.",
)
@click.option("--round", "number", metavar="N", type=click.IntRange(min=1), help="The version that round N made.")
@connection_options
def export(
    connection: Connection, job: str, layout: str, out: Path, base: str | None, rank: int | None, number: int | None
) -> None:
    """Write the newest version of JOB (id or name) into files, or that of a round."""
    from coordinator.export.exporting import ExportFormat, export_job

    merged = ExportFormat(layout) is ExportFormat.MERGED
    with tempfile.TemporaryDirectory() as scratch:
        base_folder = Path(scratch) / "base" if merged or rank else None
        if base_folder is not None:
            base_folder.mkdir()
        found, plan, state = connection.call(lambda client: _fetch(client, job, number, Path(scratch), base_folder))
        lineage = _lineage(found, number)
        files = export_job(plan, state, out, ExportFormat(layout), lineage, base, base_folder, rank)
        click.echo(f"{found.name} after {lineage.rounds} rounds: {', '.join(file.name for file in files)} in {out}.")
        if rank and base_folder is not None:
            click.echo(f"Measuring rank {rank} on the held-out data ...")
            click.echo(_compare(connection, found, plan, lineage.accuracy, out, base_folder, rank))


def _compare(
    connection: Connection,
    job: wire.Job,
    plan: JobPlan,
    accuracy: float | None,
    adapter: Path,
    base: Path,
    rank: int,
) -> str:
    """Return what an adapter that was cut to a rank is worth beside the version with this accuracy."""
    from coordinator.evaluation.adapters import evaluate_adapter
    from coordinator.jobs.jobfile import held_out_source, read_job_file
    from ravan.adapters.export import full_rank

    held_out = base.parent / "held-out"
    connection.call(lambda client: client.download_blob(job.evaluation_digest, held_out))
    source = held_out_source(read_job_file(job.job_toml, source="job.toml"), held_out)
    found = evaluate_adapter(base, plan, adapter, source)
    whole = max(full_rank(plan, matrix) for matrix in plan.matrices)
    before = f" instead of {accuracy:.3f}" if accuracy is not None else ""
    return (
        f"Rank {min(rank, whole)} instead of {whole}: accuracy {found.accuracy:.3f}{before} on {found.examples}"
        " held-out examples."
    )


def _lineage(found: wire.Job, number: int | None) -> Lineage:
    from coordinator.export.exporting import Lineage

    scored = _find_version(found, number)
    return Lineage(
        rounds=sum(bool(each.state_digest) for each in found.rounds if number is None or each.number <= number),
        accuracy=scored.accuracy if scored.HasField("accuracy") else None,
        exported_at=time.time(),
    )


def _find_version(found: wire.Job, number: int | None) -> wire.Job | wire.Round:
    """Return what holds the wanted version; raise StateError NOT_FOUND for a round that made none."""
    from ravan.errors import ErrorReason, StateError

    made = {each.number: each for each in found.rounds if each.state_digest}
    if number is None:
        return found
    if number in made:
        return made[number]
    raise StateError(
        f"Round {number} of {found.name} made no version.",
        reason=ErrorReason.NOT_FOUND,
        next_step=f"See which rounds were committed: `ravan-coordinator job show {found.name}`.",
    )


async def _fetch(
    client: OperatorClient, name: str, number: int | None, scratch: Path, base_folder: Path | None
) -> tuple[wire.Job, JobPlan, bytes]:
    """Return a job, its plan and the content of a version; put the base model's files into `base_folder`."""
    from coordinator.cli.progress import transfer_progress
    from ravan.codec.plans import decode_plan

    job = await client.get_job(name)
    path = scratch / "state.safetensors"
    await client.download_blob(_find_version(job, number).state_digest, path)
    plan = decode_plan(job.plan.payload)
    if base_folder is not None:
        with transfer_progress() as progress:
            for file in plan.model_files:
                await client.download_blob(file.sha256, base_folder / file.path, progress)
    return job, plan, path.read_bytes()
