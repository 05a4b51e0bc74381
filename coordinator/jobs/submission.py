"""From a job file to a plan: everything that can be wrong is refused here, before anything runs."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from coordinator.evaluation.findings import AlignedBases, Inventory
from coordinator.jobs.cohort import check_cohort, describe_cohort
from coordinator.jobs.expectation import expected_frequencies
from coordinator.jobs.jobfile import JobFile
from coordinator.jobs.ranks import choose_ranks, describe_ranks
from coordinator.store.blobs.base import BlobStore
from coordinator.store.records import ModelRecord
from ravan.adapters.basis import basis_digest, check_fits, drawn_bases, encode_basis
from ravan.adapters.planned_bases import BasisFiles, planned_bases
from ravan.adapters.state import encode_state, initial_state
from ravan.data.examples import KIND_OF_TASK, Examples, read_examples
from ravan.data.source import DataKind, DataSource
from ravan.data.texts import AnswerExamples
from ravan.errors import ConfigError, ErrorReason, ModelError
from ravan.ids import Digest, JobId, RunId
from ravan.manifest.plan import (
    NO_DIGEST,
    AdapterSettings,
    DenseParameter,
    JobPlan,
    Matrix,
    ModelFile,
    Precision,
    TrainingSettings,
)

Entropy = Callable[[int], bytes]
"""Returns so many random bytes; `os.urandom` outside tests."""


_LEFT_OUT: Final[Mapping[DataKind, str]] = {
    DataKind.TEXTS: "rows without text are left out",
    DataKind.IMAGES: "files that cannot be read as images are left out",
    DataKind.SERIES: "series shorter than a window are left out",
}


class ModelInspector(Protocol):
    """Whoever looks into a base model; `ModelWorker` is one."""

    async def inspect(
        self, files: Sequence[ModelFile], training: TrainingSettings, targets: tuple[str, ...], precision: Precision
    ) -> Inventory:
        """Tell what the model offers a job; raise ModelError when it cannot be held in this precision."""
        ...

    async def align(self, plan: JobPlan, held_out: DataSource) -> AlignedBases:
        """Find and store what bases lead with that follow the held-out examples."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftedJob:
    """A job that passed all checks; of it nothing is stored but what its bases lead with."""

    plan: JobPlan
    initial_state: bytes
    """`encode_state` of the version that the first round starts from."""
    notes: tuple[str, ...]
    """Sentences that the operator should read."""


def choose_model(job: JobFile, models: Sequence[ModelRecord]) -> ModelRecord:
    """Return the base model that the job names; raise ModelError MODEL_MISSING, naming those that are there."""
    by_name = {model.name: model for model in models}
    if job.model.name in by_name:
        return by_name[job.model.name]
    known = f"There are: {', '.join(sorted(by_name))}. " if by_name else "There is none yet. "
    raise ModelError(
        f"There is no base model '{job.model.name}' here, as [model] name asks for.",
        reason=ErrorReason.MODEL_MISSING,
        next_step=f"{known}Add one with `ravan-coordinator model add DIR --name {job.model.name}`.",
    )


async def draft_job(
    job: JobFile,
    *,
    model: ModelRecord,
    held_out: DataSource,
    fleet_size: int,
    inspector: ModelInspector,
    entropy: Entropy,
) -> DraftedJob:
    """Check a job against its fleet, held-out file and model, and draw up its plan and first version.

    `fleet_size` counts enrolled sites that are not revoked. Raise ConfigError (CONFIG_INVALID, ADAPTER_TOO_LARGE,
    COHORT_UNREACHABLE), DataError or ModelError with the value that would work.
    """
    check_cohort(job, fleet_size)
    targets = job.adapter.targets if job.adapter.heads else ()
    settings = job.training.settled()
    inventory = await inspector.inspect(model.files, settings, targets, job.model.precision)
    examples = await asyncio.to_thread(read_examples, held_out, inventory.training)
    _check_trains(job, inventory)
    frequencies = expected_frequencies(job.training.expected_labels, _classes_of(examples), len(job.training.labels))
    drawn_up = await asyncio.to_thread(_draw_up, job, model, _expecting(inventory, frequencies), entropy)
    plan = await _settle_bases(drawn_up, inspector, held_out)
    ranks = describe_ranks(plan, job.adapter)
    cohort = describe_cohort(job, fleet_size)
    notes = (_describe_plan(plan), *ranks, cohort, *_describe_examples(job, examples))
    return DraftedJob(plan=plan, initial_state=encode_state(plan, initial_state(plan)), notes=notes)


async def _settle_bases(plan: JobPlan, inspector: ModelInspector, held_out: DataSource) -> JobPlan:
    """Return the plan with the digests of its bases."""
    if plan.adapter.basis.is_led and plan.matrices:
        found = await inspector.align(plan, held_out)
    else:
        found = AlignedBases(directions=NO_DIGEST, bases=await asyncio.to_thread(_digest_bases, plan))
    settled = (replace(m, basis_digest=digest) for m, digest in zip(plan.matrices, found.bases, strict=True))
    return replace(plan, matrices=tuple(settled), directions=found.directions)


def _digest_bases(plan: JobPlan) -> tuple[Digest, ...]:
    return tuple(basis_digest(drawn_bases(plan.adapter)(matrix)) for matrix in plan.matrices)


def basis_blob(plan: JobPlan, digest: Digest, blobs: BlobStore) -> bytes | None:
    """Draw the bases with this digest anew and serialise them; None when they are not the plan's.

    Takes tens of milliseconds for a small matrix and seconds for a large one: not for an event loop.
    """
    for matrix in plan.matrices:
        if matrix.basis_digest == digest:
            files = BasisFiles(directions=blobs.path(plan.directions) if plan.directions else None)
            return encode_basis(planned_bases(plan, files)(matrix))
    return None


def _draw_up(job: JobFile, model: ModelRecord, inventory: Inventory, entropy: Entropy) -> JobPlan:
    ranks = choose_ranks(job.adapter, job.basis, [(out, inputs) for _, out, inputs in inventory.linears])
    adapter = _settle_adapter(job, max(ranks, default=0), entropy)
    for rank, (name, out, inputs) in zip(ranks, inventory.linears, strict=True):
        check_fits(replace(adapter, rank=rank), [(out, inputs, name)])
    return JobPlan(
        run_id=RunId(entropy(16)),
        job_id=JobId(f"{job.job.name}-{entropy(4).hex()}"),
        job_name=job.job.name,
        model_name=model.name,
        model_files=model.files,
        adapter=adapter,
        matrices=tuple(
            _matrix(adapter, ordinal, rank, *linear)
            for ordinal, (rank, linear) in enumerate(zip(ranks, inventory.linears, strict=True))
        ),
        dense=tuple(DenseParameter(ordinal=i, name=name, shape=s) for i, (name, s) in enumerate(inventory.dense)),
        training=inventory.training,
        denominator=job.round.denominator,
        precision=job.model.precision,
    )


def _settle_adapter(job: JobFile, rank: int, entropy: Entropy) -> AdapterSettings:
    table = job.adapter
    return AdapterSettings(
        heads=table.heads,
        rank=rank,
        basis=job.basis,
        seed=bytes.fromhex(table.seed) or entropy(32),
        train_scales=table.train_scales,
    )


def _matrix(
    adapter: AdapterSettings, ordinal: int, rank: int, name: str, out_features: int, in_features: int
) -> Matrix:
    return Matrix(
        ordinal=ordinal,
        name=name,
        out_features=out_features,
        in_features=in_features,
        basis_digest=NO_DIGEST,
        rank=0 if rank == adapter.rank else rank,
    )


def _check_trains(job: JobFile, inventory: Inventory) -> None:
    if not job.adapter.heads and not inventory.dense:
        raise ConfigError(
            f"[adapter] heads = 0 leaves nothing to train: for {job.training.task} the model needs no new parameters.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="Set it to 1 or more.",
        )


def _describe_plan(plan: JobPlan) -> str:
    dense = sum(math.prod(parameter.shape) for parameter in plan.dense)
    names = ", ".join(parameter.name for parameter in plan.dense) or "nothing"
    whole = f"{names} whole ({dense:,} numbers)"
    if not plan.matrices:
        return f"Trains {whole} and no heads."
    ranks = sorted({plan.adapter.for_matrix(matrix).rank for matrix in plan.matrices})
    spread = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
    count = sum(plan.adapter.heads * plan.adapter.for_matrix(matrix).rank ** 2 for matrix in plan.matrices)
    heads = f"{plan.adapter.heads} heads of {spread} in each of {len(plan.matrices)} matrices ({count:,} numbers)"
    return f"Trains {heads} and {whole}."


def _classes_of(examples: Examples) -> NDArray[np.int64] | None:
    return None if isinstance(examples, AnswerExamples) else np.asarray(examples.label_ids, np.int64)


def _expecting(inventory: Inventory, frequencies: tuple[float, ...]) -> Inventory:
    return replace(inventory, training=replace(inventory.training, label_frequencies=frequencies))


def _labels_of(job: JobFile, label_ids: Sequence[int]) -> set[str]:
    return {job.training.labels[index] for index in label_ids}


def _describe_examples(job: JobFile, examples: Examples) -> tuple[str, ...]:
    notes = []
    if examples.left_out:
        notes.append(f"{job.evaluation.data}: {examples.left_out} {_LEFT_OUT[KIND_OF_TASK[job.training.task]]}.")
    seen = set(examples.answers) if isinstance(examples, AnswerExamples) else _labels_of(job, examples.label_ids)
    absent = [label for label in job.training.labels if label not in seen]
    if absent:
        notes.append(f"{job.evaluation.data} has no example of: {', '.join(absent)}.")
    return tuple(notes)
