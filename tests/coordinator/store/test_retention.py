"""What goes and what stays: by policy, by age, by who refers to it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_plans import plan_of

from coordinator.store.base import Transaction
from coordinator.store.blobs.local import LocalBlobs
from coordinator.store.records import JobRecord, ModelRecord, RoundRecord
from coordinator.store.references import past_blobs
from coordinator.store.retention import GRACE_S, Cleaned, Retention
from coordinator.store.sql.store import MEMORY, SqlStore, open_store
from coordinator.store.staging import Staging, UploadKey
from ravan.clock import ManualClock
from ravan.codec.plans import encode_plan
from ravan.ids import Digest, JobId, RunId, SiteId
from ravan.manifest.documents import SignedDocument
from ravan.manifest.phases import JobState, RoundOutcome, RoundPhase
from ravan.manifest.plan import BasisKind, ModelFile

NOTHING = Cleaned(blobs=0, blob_bytes=0, runs=0)


@dataclass
class World:
    """A store, its blobs and a clock; blobs are as old as they are told."""

    store: SqlStore
    blobs: LocalBlobs
    staging: Staging
    clock: ManualClock

    def put(self, name: str, age_s: float = 2 * GRACE_S) -> Digest:
        digest = self.blobs.put(name.encode())
        put_at = self.clock.now() - age_s
        os.utime(self.blobs.path(digest), (put_at, put_at))
        return digest

    def has(self, name: str) -> bool:
        return self.blobs.exists(Digest(hashlib.sha256(name.encode()).digest()))

    async def clean(self, versions: int = 0) -> Cleaned:
        return await Retention(self.store, self.blobs, self.staging, self.clock, versions=versions).clean()

    async def add_job(self, name: str, state: JobState, accuracies: list[float | None]) -> JobRecord:
        """Store a job and its rounds; None stands for one without a new version."""
        file = ModelFile(path="config.json", sha256=self.put(f"{name} model"), size_bytes=1)
        run = RunId(hashlib.sha256(name.encode()).digest()[:16])
        plan = replace(plan_of(1), run_id=run, job_id=JobId(name), job_name=name, model_files=(file,))
        adapter = replace(plan.adapter, basis=BasisKind.ALIGNED)
        plan = replace(plan, adapter=adapter, directions=self.put(f"{name} directions"))
        rounds = [self._round(name, number, accuracy) for number, accuracy in enumerate(accuracies, start=1)]
        newest = next((each.state_digest for each in reversed(rounds) if each.state_digest), None)
        job = JobRecord(
            job_id=plan.job_id,
            name=name,
            state=state,
            message="",
            submitted_at=1.0,
            request_id=name,
            job_toml="",
            plan=SignedDocument(payload=encode_plan(plan), signature=b""),
            model="tiny",
            evaluation_digest=self.put(f"{name} data"),
            rounds_planned=9,
            state_digest=newest or self.put(f"{name} version 0"),
        )

        def write(t: Transaction) -> None:
            t.put_job(job)
            for each in rounds:
                t.put_round(each)

        await self.store.transact("write", write)
        return job

    def _round(self, name: str, number: int, accuracy: float | None) -> RoundRecord:
        done = RoundRecord(
            job_id=JobId(name), number=number, phase=RoundPhase.ENDED, outcome=RoundOutcome.INTERRUPTED, started_at=1.0
        )
        if accuracy is None:
            return done
        return replace(
            done,
            outcome=RoundOutcome.COMMITTED,
            accuracy=accuracy,
            state_digest=self.put(f"{name} version {number}"),
            sums_digest=self.put(f"{name} sums {number}"),
        )

    def stage(self, name: str) -> None:
        run = RunId(hashlib.sha256(name.encode()).digest()[:16])
        key = UploadKey(run_id=run, round_number=1, site=SiteId("a"), sha256=Digest(hashlib.sha256(b"x").digest()))
        stream = self.staging.open(key, 1)
        stream.append(0, b"x")
        stream.finish()
        self.staging.close(key, stream)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = open_store(MEMORY)
    yield World(store, LocalBlobs(tmp_path / "blobs"), Staging(tmp_path / "staging"), ManualClock())
    await store.close()


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.COMPLETED])
async def test_old_versions_go_and_the_newest_and_the_best_stay(world: World, state: JobState) -> None:
    await world.add_job("job", state, [0.5, 0.9, 0.6, None, 0.7, 0.8])
    assert (await world.clean(versions=2)).blobs == 5
    kept = [number for number in range(1, 7) if world.has(f"job version {number}")]
    assert kept == [2, 5, 6]
    assert [number for number in range(1, 7) if world.has(f"job sums {number}")] == [5, 6]
    assert world.has("job model")
    assert world.has("job directions")
    assert world.has("job data")
    assert await world.clean(versions=2) == NOTHING


async def test_0_keeps_every_version(world: World) -> None:
    await world.add_job("job", JobState.RUNNING, [0.1] * 5)
    assert await world.clean(versions=0) == NOTHING


async def test_a_job_before_its_first_version_keeps_the_one_it_begins_with(world: World) -> None:
    await world.add_job("job", JobState.PREPARING, [])
    assert await world.clean(versions=1) == NOTHING


async def test_orphans_go_when_they_are_old_enough_and_models_never(world: World) -> None:
    orphan, young = world.put("orphan", age_s=GRACE_S + 1), world.put("young", age_s=GRACE_S - 1)
    file = ModelFile(path="config.json", sha256=world.put("model"), size_bytes=5)
    model = ModelRecord(
        name="tiny", files=(file,), digest=file.sha256, model_type="bert", parameters=7_000_000_000, added_at=1.0
    )
    await world.store.transact("write", lambda t: t.put_model(model))
    assert await world.clean() == Cleaned(blobs=1, blob_bytes=len("orphan"), runs=0)
    assert (world.blobs.exists(orphan), world.blobs.exists(young), world.has("model")) == (False, True, True)
    world.clock.advance(2)
    assert (await world.clean()).blobs == 1


async def test_what_is_sent_again_is_spared(world: World) -> None:
    orphan = world.put("orphan")
    world.blobs.renew(orphan)
    put_again = world.clock.now()
    os.utime(world.blobs.path(orphan), (put_again, put_again))
    assert await world.clean() == NOTHING


async def test_uploads_stay_while_their_job_goes_on(world: World) -> None:
    await world.add_job("running", JobState.RUNNING, [])
    await world.add_job("paused", JobState.PAUSED, [])
    await world.add_job("ended", JobState.STOPPED, [])
    for name in ("running", "paused", "ended", "unknown"):
        world.stage(name)
    assert await world.clean() == Cleaned(blobs=0, blob_bytes=0, runs=2)
    left = {RunId(hashlib.sha256(name).digest()[:16]) for name in (b"running", b"paused")}
    assert set(world.staging.runs()) == left


accuracies = st.lists(st.one_of(st.none(), st.sampled_from([0.1, 0.5, 0.9])), max_size=12)


@given(accuracies, st.integers(1, 15))
def test_never_fewer_than_the_newest_versions_and_the_best_are_kept(found: list[float | None], versions: int) -> None:
    rounds = [
        RoundRecord(
            job_id=JobId("j"),
            number=number,
            phase=RoundPhase.ENDED,
            outcome=None,
            started_at=0.0,
            accuracy=accuracy,
            state_digest=Digest(b"state %d" % number if accuracy is not None else b""),
            sums_digest=Digest(b"sums %d" % number if accuracy is not None else b""),
        )
        for number, accuracy in enumerate(found)
    ]
    kept = past_blobs(rounds, versions)
    made = [each for each in rounds if each.accuracy is not None]
    for index, each in enumerate(made):
        newest = len(made) - index <= versions
        best = each.accuracy == max(other.accuracy for other in made if other.accuracy is not None)
        latest_best = best and all(other.accuracy != each.accuracy for other in made[index + 1 :])
        assert (each.state_digest in kept) == (newest or latest_best)
        assert (each.sums_digest in kept) == newest
    assert b"" not in kept
