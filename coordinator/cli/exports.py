"""`export`: the trained model in files, with its lineage beside it."""

# ruff: noqa: PLC0415 - commands import what they need when they run

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from coordinator.cli.connection import Connection, connection_options

if TYPE_CHECKING:
    from coordinator.export.exporting import Lineage
    from coordinator.operator_client import OperatorClient
    from ravan.data.source import DataSource
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
@click.option(
    "--average",
    metavar="K",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="The mean of the last K versions instead of the last one, measured on the held-out data.",
)
@connection_options
def export(
    connection: Connection,
    job: str,
    layout: str,
    out: Path,
    base: str | None,
    rank: int | None,
    number: int | None,
    average: int,
) -> None:
    """Write the newest version of JOB (id or name) into files, or that of a round."""
    from coordinator.export.exporting import Beside, ExportFormat, export_job

    needs_base = ExportFormat(layout) is ExportFormat.MERGED or rank or average > 1
    with tempfile.TemporaryDirectory() as scratch:
        base_folder = Path(scratch) / "base" if needs_base else None
        if base_folder is not None:
            base_folder.mkdir()
        found, plan, states, directions = connection.call(
            lambda client: _fetch(client, job, number, average, Path(scratch), base_folder)
        )
        state, lineage = states[-1], _lineage(found, number)
        if base_folder is not None and average > 1:
            click.echo(f"Measuring the mean of {average} versions on the held-out data ...")
            state, lineage = _average(connection, found, plan, states, lineage, base_folder, directions)
        beside = Beside(base_model=base, base_folder=base_folder, directions=directions)
        files = export_job(plan, state, out, ExportFormat(layout), lineage, beside, rank)
        click.echo(f"{found.name} after {lineage.rounds} rounds: {', '.join(file.name for file in files)} in {out}.")
        if rank and base_folder is not None:
            click.echo(f"Measuring rank {rank} on the held-out data ...")
            click.echo(_compare(connection, found, plan, lineage.accuracy, out, base_folder, rank))


def _average(
    connection: Connection,
    job: wire.Job,
    plan: JobPlan,
    states: Sequence[bytes],
    lineage: Lineage,
    base: Path,
    directions: Path | None,
) -> tuple[bytes, Lineage]:
    """Return the mean of versions with what it is worth, and say so."""
    from coordinator.evaluation.worker import evaluate_state
    from ravan.adapters.state import decode_state, encode_state, mean_state

    state = encode_state(plan, mean_state([decode_state(plan, each) for each in states]))
    found = evaluate_state(base, plan, state, _held_out(connection, job, base.parent), directions)
    click.echo(
        f"Mean of the last {len(states)} versions: accuracy {found.accuracy:.3f}{_instead_of(lineage.accuracy)}"
        f" on {found.examples} held-out examples."
    )
    return state, dataclasses.replace(lineage, accuracy=found.accuracy, averaged=len(states))


def _held_out(connection: Connection, job: wire.Job, scratch: Path) -> DataSource:
    from coordinator.jobs.jobfile import held_out_source, read_job_file

    path = scratch / "held-out"
    if not path.exists():
        connection.call(lambda client: client.download_blob(job.evaluation_digest, path))
    return held_out_source(read_job_file(job.job_toml, source="job.toml"), path)


def _instead_of(accuracy: float | None) -> str:
    return f" instead of {accuracy:.3f}" if accuracy is not None else ""


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
    from ravan.adapters.export import full_rank

    found = evaluate_adapter(base, plan, adapter, _held_out(connection, job, base.parent))
    whole = max(full_rank(plan, matrix) for matrix in plan.matrices)
    return (
        f"Rank {min(rank, whole)} instead of {whole}: accuracy {found.accuracy:.3f}{_instead_of(accuracy)} on"
        f" {found.examples} held-out examples."
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


def _last_versions(found: wire.Job, number: int | None, count: int) -> list[bytes]:
    """Return the digests of so many versions, oldest first; raise StateError NOT_FOUND where fewer were made."""
    from ravan.errors import ErrorReason, StateError

    last = _find_version(found, number).state_digest
    if count == 1:
        return [last]
    made = [
        each.state_digest for each in found.rounds if each.state_digest and (number is None or each.number <= number)
    ]
    if len(made) < count:
        raise StateError(
            f"{found.name} has made {len(made)} versions so far, of which {count} cannot be averaged.",
            reason=ErrorReason.NOT_FOUND,
            next_step=f"Export with --average {len(made)} or less." if made else "Export once a round is committed.",
        )
    return made[-count:]


async def _fetch(
    client: OperatorClient, name: str, number: int | None, count: int, scratch: Path, base_folder: Path | None
) -> tuple[wire.Job, JobPlan, list[bytes], Path | None]:
    """Return a job, its plan, the content of versions and the file of what its bases lead with, if it has one.

    Put the base model's files into `base_folder`.
    """
    from coordinator.cli.progress import transfer_progress
    from ravan.codec.plans import decode_plan

    job = await client.get_job(name)
    path, states = scratch / "state.safetensors", []
    for digest in _last_versions(job, number, count):
        await client.download_blob(digest, path)
        states.append(path.read_bytes())
        path.unlink()
    plan = decode_plan(job.plan.payload)
    directions = scratch / "directions.safetensors" if plan.directions else None
    if directions is not None:
        await client.download_blob(plan.directions, directions)
    if base_folder is not None:
        with transfer_progress() as progress:
            for file in plan.model_files:
                await client.download_blob(file.sha256, base_folder / file.path, progress)
    return job, plan, states, directions
