"""A disk that runs full under a job, at every write: the job says so and waits, and goes on where it was."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from plant import EVALUATION, FULL, PATIENCE_S, WRITES, Plant, Site, Workbench, digest_of, job_toml

from coordinator.rounds.ports import Job
from coordinator.rounds.replies import JobDetail
from coordinator.rounds.results import Evaluation, SummedRound
from ravan.errors import ErrorReason, RavanError, ResourceError
from ravan.ids import Digest, JobId, SiteId
from ravan.manifest.instructions import Instruction, MaskAndUpload, RoundResult, Train
from ravan.manifest.phases import DropReason, JobState, RoundOutcome, RoundPhase
from ravan.secagg.unmask import UnmaskJob

LATE = SiteId("site-0")
REFUSALS_UNTIL_ROOM = 4
"""Where nothing but sites that ask again shows that the disk is full."""


def assert_all_counted_once(plant: Plant, detail: JobDetail) -> None:
    """Every member of every round is in its sum, once: member i adds i + 1 in every slot."""
    assert [each.outcome for each in detail.rounds] == [RoundOutcome.COMMITTED] * len(detail.rounds)
    assert [each.dropped for each in detail.rounds] == [()] * len(detail.rounds)
    assert len(plant.workbench.totals) == len(detail.rounds)
    for record, total in zip(detail.rounds, plant.workbench.totals, strict=True):
        members = len(record.selected)
        assert set(record.completed) == set(record.selected)
        assert {int(v) for block in total.blocks.values() for v in block.total} == {members * (members + 1) // 2}


async def insist_on_attaching(site: Site) -> None:
    """Come back until the coordinator takes the site, as an agent does."""
    while True:
        try:
            await site.connect()
        except ResourceError:
            await asyncio.sleep(0.02)
        else:
            return


async def insist_on_submitting(plant: Plant) -> JobId:
    """Submit the same request until it is taken."""
    while True:
        try:
            return (await plant.conductor.submit_job(job_toml(rounds=2), EVALUATION, "request")).job_id
        except ResourceError:
            plant.store.make_room()


async def look_after(plant: Plant, job_id: JobId) -> JobDetail:
    """Be the operator: make room and resume where a job says that it waits for that."""
    while True:
        detail = await plant.conductor.job_detail(job_id)
        if detail.record.state is JobState.PAUSED:
            assert FULL in detail.record.message
            assert "Then `job resume`." in detail.record.message
            plant.store.make_room()
            await plant.conductor.resume_job(job_id)
        elif plant.store.refusals >= REFUSALS_UNTIL_ROOM:
            plant.store.make_room()
        if detail.record.state not in (JobState.PREPARING, JobState.RUNNING, JobState.PAUSED):
            return detail
        await asyncio.sleep(0.02)


async def run_with_a_disk_that_runs_full_at(number: int, folder: Path) -> bool:
    """Run a job of two rounds and check it; tell whether there were so many writes."""
    await asyncio.to_thread(folder.mkdir)
    async with Plant(folder, settle_s=0.0) as plant:
        set_bench(plant)
        plant.store.full_at = number
        async with asyncio.timeout(PATIENCE_S):
            for site in plant.sites:
                await insist_on_attaching(site)
            detail = await look_after(plant, await insist_on_submitting(plant))
        assert detail.record.state is JobState.COMPLETED
        assert len(detail.rounds) == 2
        assert_all_counted_once(plant, detail)
        assert all(isinstance(each, RavanError) for site in plant.sites for each in site.refused)
        return bool(plant.store.refusals)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_disk_that_runs_full_at_any_write_costs_no_round_and_no_update(tmp_path: Path) -> None:
    number = 1
    while await run_with_a_disk_that_runs_full_at(number, tmp_path / str(number)):
        number += 1
    # A start, four preparations and profiles, and for each of two rounds at least one step a phase.
    assert number > 1 + 4 + 4 + 2 * len(RoundPhase)


@pytest.mark.parametrize("name", sorted(WRITES))
async def test_a_disk_that_is_full_for_one_kind_of_write_costs_no_round_and_no_update(
    tmp_path: Path, name: str
) -> None:
    async with Plant(tmp_path, settle_s=0.0) as plant:
        set_bench(plant)
        plant.store.refuse = name
        async with asyncio.timeout(PATIENCE_S):
            job_id = await insist_on_submitting(plant)
            # A site that comes only now is asked to prepare by a transaction of its own.
            attaching = [asyncio.create_task(insist_on_attaching(site)) for site in plant.sites]
            detail = await look_after(plant, job_id)
            await asyncio.gather(*attaching)
        assert detail.record.state is JobState.COMPLETED
        assert plant.store.refusals > 0
        assert_all_counted_once(plant, detail)


class Cramped(Workbench):
    """Work that may be done again from the same version, and for which there is no room while it is told so."""

    full_in = ""

    async def unmask(self, job: Job, works: Sequence[UnmaskJob], payloads: Mapping[int, Path]) -> SummedRound:
        self._require_room("unmask")
        return await super().unmask(job, works, payloads)

    async def combine(self, job: Job, number: int, state_digest: Digest, summed: SummedRound) -> Digest:
        self._require_room("combine")
        versions = [digest_of(f"version {number}") for number in range(len(self.totals) + 1)]
        del self.totals[versions.index(state_digest) :]
        return await super().combine(job, number, state_digest, summed)

    async def evaluate(self, job: Job, state_digest: Digest) -> Evaluation:
        self._require_room("evaluate")
        return await super().evaluate(job, state_digest)

    def _require_room(self, work: str) -> None:
        if self.full_in == work:
            raise ResourceError(FULL, reason=ErrorReason.DISK_FULL, next_step="Free some space.")


def set_bench(plant: Plant) -> Cramped:
    plant.workbench = bench = Cramped()
    plant.conductor = plant.new_conductor()
    return bench


@pytest.mark.parametrize("work", ["unmask", "combine", "evaluate"])
async def test_work_for_which_there_is_no_room_waits_with_all_that_its_sites_have_sent(
    tmp_path: Path, work: str
) -> None:
    async with Plant(tmp_path) as plant:
        bench = set_bench(plant)
        await plant.connect_all()
        bench.full_in = work
        job_id = await plant.submit(rounds=1)
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.PAUSED)
        assert FULL in detail.record.message
        bench.full_in = ""
        await plant.conductor.resume_job(job_id)
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED)
        assert_all_counted_once(plant, detail)
        for site in plant.sites:
            assert sum(isinstance(each, Train) for each in site.heard) == 1


async def stand_still(plant: Plant, kind: type[Instruction] = Train) -> tuple[JobId, asyncio.Task[None]]:
    """Bring a job to where one site has not answered, and its answer, which is under way, cannot be stored."""
    plant.sites[0].mute = {kind}
    await plant.connect_all()
    job_id = await plant.submit(rounds=1)
    await plant.until(job_id, lambda detail: detail.awaited == (LATE,))
    await plant.until_acknowledged()
    plant.sites[0].mute = set()
    plant.store.refuse = "advance_round"
    answering = asyncio.create_task(plant.sites[0].answer(plant.sites[0].heard[-1]))
    await plant.until(job_id, lambda detail: detail.record.state is JobState.PAUSED)
    assert not answering.done()
    return job_id, answering


async def test_a_round_that_could_not_store_an_answer_goes_on_with_it(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        job_id, _ = await stand_still(plant)
        plant.store.make_room()
        await plant.conductor.resume_job(job_id)
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED)
        assert len(detail.rounds) == 1
        assert len(detail.rounds[0].completed) == len(plant.sites)
        assert_all_counted_once(plant, detail)


async def test_while_the_disk_stays_full_the_job_shows_as_paused_and_each_resume_counts(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        job_id, _ = await stand_still(plant)
        plant.store.refuse = "put_job"
        [listed] = await plant.conductor.jobs()
        assert listed.state is JobState.PAUSED
        with pytest.raises(RavanError, match="disk is full"):
            await plant.conductor.resume_job(job_id)
        assert (await plant.conductor.job_detail(job_id)).record.state is JobState.PAUSED
        plant.store.make_room()
        await plant.conductor.resume_job(job_id)
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED)
        assert_all_counted_once(plant, detail)


async def test_a_disk_that_is_full_again_pauses_the_same_round_again(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        job_id, _ = await stand_still(plant)
        for _ in range(3):
            await plant.conductor.resume_job(job_id)
            detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.PAUSED)
            assert [(each.number, each.outcome) for each in detail.rounds] == [(1, None)]
        plant.store.make_room()
        await plant.conductor.resume_job(job_id)
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED)
        assert_all_counted_once(plant, detail)


async def test_who_left_while_the_round_stood_still_is_out_and_the_others_go_on(tmp_path: Path) -> None:
    async with Plant(tmp_path, 5) as plant:
        job_id, _ = await stand_still(plant, MaskAndUpload)
        await plant.sites[1].disconnect()
        await plant.conductor.site_lost(plant.sites[1].name)
        plant.store.make_room()
        await plant.conductor.resume_job(job_id)
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED)
        (done,) = detail.rounds
        assert [(drop.site, drop.reason) for drop in done.dropped] == [("site-1", DropReason.DISCONNECTED)]
        # Its vector was there already.
        assert done.outcome is RoundOutcome.COMMITTED


async def test_a_job_that_is_stopped_while_its_round_stands_still_leaves_no_round_running(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        job_id, _ = await stand_still(plant)
        plant.store.make_room()
        await plant.conductor.stop_job(job_id)
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.STOPPED)
        assert [each.outcome for each in detail.rounds] == [RoundOutcome.INTERRUPTED]
        stored = [each.instruction for each in await plant.instructions(plant.sites[1].name)]
        assert any(isinstance(each, RoundResult) for each in stored)


async def test_a_coordinator_that_is_killed_while_a_round_stands_still_goes_on_with_it(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        job_id, answering = await stand_still(plant)
        # Its line breaks with the coordinator, and it sends the answer again over the next one.
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)
        plant.store.make_room()
        await plant.restart_daemon()
        detail = await plant.until(job_id, lambda detail: detail.rounds[0].outcome is not None)
        assert_all_counted_once(plant, detail)
