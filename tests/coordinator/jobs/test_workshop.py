"""The workshop as the rounds use it: with the real evaluation process, and with real masked payloads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from job_plans import plan_of
from secagg_driver import Federation, make_assignment

from coordinator.aggregation.sums import read_sums
from coordinator.evaluation.pool import ModelWorker
from coordinator.jobs.jobfile import JobFile, read_job_file
from coordinator.jobs.models import record_model
from coordinator.jobs.sample import write_sample
from coordinator.jobs.workshop import LocalWorkshop
from coordinator.rounds.ports import Job, Workshop
from coordinator.store.blobs.local import LocalBlobs
from coordinator.store.records import ModelRecord
from ravan.adapters.state import decode_state, encode_state, initial_state
from ravan.errors import ErrorReason, ModelError
from ravan.ids import Digest
from ravan.manifest.plan import JobPlan, ModelFile
from simulation.tiny_text_model import write_tiny_model

NO_DIGEST = Digest(bytes(32))


def job_file() -> JobFile:
    text = write_sample().replace('rank = "auto" ', "rank = 3 ").replace("max_length = 64", "max_length = 16")
    return read_job_file(text, source="job.toml")


def job_of(plan: JobPlan, evaluation_digest: Digest = NO_DIGEST) -> Job:
    return Job(
        job_id=plan.job_id,
        file=job_file(),
        plan=plan,
        plan_digest=NO_DIGEST,
        model_digest=NO_DIGEST,
        evaluation_digest=evaluation_digest,
    )


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "blobs")


async def test_a_job_is_planned_and_its_first_version_scored(blobs: LocalBlobs, tmp_path: Path) -> None:
    files = [
        ModelFile(path=p.name, sha256=blobs.put(p.read_bytes()), size_bytes=p.stat().st_size)
        for p in write_tiny_model(tmp_path / "model").iterdir()
    ]
    held_out = blobs.put(b"text,label\nthe hose,hydraulic\nengine,engine\n")
    worker = ModelWorker(blobs, tmp_path / "work")
    workshop: Workshop = LocalWorkshop(blobs, worker)
    model = record_model("minilm", files, blobs, 1.0)
    try:
        planned = await workshop.plan(job_file(), model=model, evaluation_digest=held_out, fleet_size=9)
        decode_state(planned.plan, blobs.read(planned.state_digest))
        evaluation = await workshop.evaluate(job_of(planned.plan, held_out), planned.state_digest)
    finally:
        await worker.close()
    assert evaluation.accuracy in {0.0, 0.5, 1.0}
    assert blobs.exists(planned.plan.directions)
    assert not list(blobs.incoming.iterdir())
    assert 0 < evaluation.loss < 20
    assert len(planned.notes) == 3


async def test_payloads_become_a_stored_version_and_stored_sums(blobs: LocalBlobs, tmp_path: Path) -> None:
    plan = plan_of(3, heads=1, rank=3, dense=(("classifier.weight", (3, 2)),))
    federation = Federation(make_assignment(((0, 1, 2),) * 4, lengths=(9, 9, 9), dense=6))
    everyone = (0, 1, 2, 3)
    work = federation.run_to_job(everyone, everyone, everyone, everyone)
    payloads = {index: tmp_path / str(index) for index in everyone}
    for index, path in payloads.items():
        path.write_bytes(federation.payloads[index])
    workshop = LocalWorkshop(blobs, ModelWorker(blobs, tmp_path / "work"))
    first = blobs.put(encode_state(plan, initial_state(plan)))
    summed = await workshop.unmask(job_of(plan), [work], payloads)
    second = await workshop.combine(job_of(plan), 1, first, summed)
    assert not list(blobs.incoming.iterdir())
    (published,) = read_sums(blobs.read(summed.sums_digest)).groups
    assert published.survivors == everyone
    assert published.bundles[0].total is not None
    assert published.bundles[0].total.tolist() == federation.plain_sum(0, everyone)
    before, after = (decode_state(plan, blobs.read(digest)) for digest in (first, second))
    for block, summed_block in summed.total.blocks.items():
        change = (after[block] - before[block]).ravel()
        np.testing.assert_allclose(change, summed_block.mean, rtol=1e-5, atol=1e-7)


async def test_heads_are_weighed_by_the_version_that_is_named(blobs: LocalBlobs, tmp_path: Path) -> None:
    plan = plan_of(2, heads=2, rank=2)
    state = initial_state(plan)
    first = blobs.put(encode_state(plan, state))
    moved = plan.head_ids()[1]
    state[moved] = np.array([[1.0, 2.0], [4.0, -2.0]], np.float32)
    second = blobs.put(encode_state(plan, state))
    workshop = LocalWorkshop(blobs, ModelWorker(blobs, tmp_path / "work"))
    assert await workshop.weigh(job_of(plan), first) == dict.fromkeys(plan.head_ids(), 0.0)
    assert await workshop.weigh(job_of(plan), second) == {**dict.fromkeys(plan.head_ids(), 0.0), moved: 5.0}


async def test_a_failed_plan_stores_no_version(blobs: LocalBlobs, tmp_path: Path) -> None:
    held_out = blobs.put(b"text,label\nengine,engine\n")
    config = blobs.put(b'{"model_type": "no-such-model"}')
    worker = ModelWorker(blobs, tmp_path / "work")
    model_files = (ModelFile(path="config.json", sha256=config, size_bytes=31),)
    model = ModelRecord(
        name="minilm", files=model_files, digest=NO_DIGEST, model_type="no-such-model", parameters=1, added_at=1.0
    )
    before = sorted(path.name for path in (tmp_path / "blobs").iterdir())
    try:
        with pytest.raises(ModelError) as caught:
            await LocalWorkshop(blobs, worker).plan(job_file(), model=model, evaluation_digest=held_out, fleet_size=9)
    finally:
        await worker.close()
    assert caught.value.reason is ErrorReason.MODEL_INVALID
    assert sorted(path.name for path in (tmp_path / "blobs").iterdir()) == before
