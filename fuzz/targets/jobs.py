"""Job files, through to the plan that agents would be sent."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from coordinator.evaluation.findings import AlignedBases, Inventory
from coordinator.jobs.jobfile import JobFile, read_job_file
from coordinator.jobs.sample import write_sample
from coordinator.jobs.submission import DraftedJob, draft_job
from coordinator.store.records import ModelRecord
from fuzz.target import Format, Target, require
from fuzz.values import PLAN, digest
from ravan.codec.plans import decode_plan, encode_plan
from ravan.data.source import DataSource
from ravan.errors import ConfigError, DataError, ErrorReason
from ravan.ids import Digest
from ravan.manifest.plan import JobPlan, ModelFile, Precision, TrainingSettings
from ravan.wire.v1 import operator_service_pb2

_MODEL: Final = ModelRecord(
    name="tiny", files=PLAN.model_files, digest=digest("model"), model_type="bert", parameters=100, added_at=0.0
)
_ROWS: Final = "text,label\nthe hose leaks,{label}\n"

_WORDS: Final = (
    *(line.partition("#")[0].strip() for line in write_sample().splitlines() if " = " in line),
    *("true", "inf", "nan", "1e308", "0x7fffffffffffffffffff", "2147483648", '"auto"', '"shared"', '"constant"'),
    *('"\\u0007"', "1979-05-27", "[[", "{", "}", "[", "]", '"""', "'''"),
)

_SMALL: Final = """
[job]
name = "a"
rounds = 1
[model]
name = "tiny"
[adapter]
heads = 1
rank = 1
[training]
data = "orders"
labels = ["a", "b"]
[evaluation]
data = "x.csv"
"""


@dataclass(frozen=True)
class _Inspector:
    """Knows what the model offers without looking."""

    async def inspect(
        self,
        files: Sequence[ModelFile],  # noqa: ARG002
        training: TrainingSettings,
        targets: tuple[str, ...],
        precision: Precision,  # noqa: ARG002
    ) -> Inventory:
        return Inventory(
            linears=(("layer.0.query", 4, 6),) if targets else (),
            dense=(("classifier.bias", (3,)),),
            parameters=100,
            model_type="bert",
            training=replace(training, image_side=training.image_side or 14, channels=("oil",)),
        )

    async def align(self, plan: JobPlan, held_out: DataSource) -> AlignedBases:  # noqa: ARG002
        return AlignedBases(directions=digest("directions"), bases=tuple(Digest(bytes(32)) for _ in plan.matrices))


def _read(data: bytes) -> None:
    # the file travels as text, so what arrives is always UTF-8
    job = read_job_file(data.decode(errors="replace"), source="job.toml")
    with tempfile.TemporaryDirectory() as folder:
        held_out = Path(folder) / "held-out.csv"
        held_out.write_text(_ROWS.format(label=next(iter(job.training.labels), "any")), encoding="utf-8")
        drafted = asyncio.run(_draft(job, held_out))
    require(decode_plan(encode_plan(drafted.plan)) == drafted.plan, "a job's plan does not survive its encoding")
    operator_service_pb2.Job(rounds_planned=job.job.rounds)


async def _draft(job: JobFile, held_out: Path) -> DraftedJob:
    return await draft_job(
        job,
        model=_MODEL,
        held_out=DataSource(
            path=held_out,
            name=job.evaluation.data,
            format=job.evaluation.format,
            text=job.evaluation.text,
            label=job.evaluation.label,
            group=job.evaluation.group,
            columns=job.evaluation.columns,
        ),
        fleet_size=8,
        inspector=_Inspector(),
        entropy=bytes,
    )


def _job_files() -> Iterable[bytes]:
    yield _SMALL.strip().encode()
    yield write_sample().encode()


JOB_FILE: Final = Target(
    name="job-file",
    formats=(Format(name="job file", read=_read, seeds=_job_files, words=_WORDS),),
    refusals={
        ConfigError: frozenset(
            {ErrorReason.CONFIG_INVALID, ErrorReason.ADAPTER_TOO_LARGE, ErrorReason.COHORT_UNREACHABLE}
        ),
        DataError: frozenset({ErrorReason.DATA_UNREADABLE, ErrorReason.DATA_UNKNOWN_LABEL}),
    },
)
