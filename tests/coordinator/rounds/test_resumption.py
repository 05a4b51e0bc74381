"""A coordinator that is killed goes on with its rounds: same round, same members, nothing trained or counted twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from holding import ANSWERED_IN, LATE, SITES, answer_late, hold_at
from plant import PATIENCE_S, Plant, digest_of

from coordinator.leases.fenced import FencedStore
from coordinator.leases.keeper import LeaseKeeper
from coordinator.leases.lease import ROUNDS, Claim, LeaseLost
from coordinator.rounds.job_runner import RETURN_S
from coordinator.store.base import Transaction
from ravan.ids import JobId
from ravan.manifest.instructions import (
    ConfirmSurvivors,
    Instruction,
    JobEnded,
    MaskAndUpload,
    Prepare,
    Reveal,
    RoundResult,
    Train,
)
from ravan.manifest.phases import DropReason, JobState, RoundOutcome, RoundPhase


@pytest.mark.parametrize("kind", ANSWERED_IN)
async def test_a_round_goes_on_in_the_phase_in_which_the_coordinator_was_killed(
    tmp_path: Path, kind: type[Instruction]
) -> None:
    async with Plant(tmp_path, SITES) as plant:
        job_id = await hold_at(plant, kind)
        await plant.restart_daemon()
        before = await plant.conductor.job_detail(job_id)
        assert (before.rounds[0].phase, before.awaited) == (ANSWERED_IN[kind], (LATE,))
        await answer_late(plant)
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED)
        (done,) = detail.rounds
        assert done.outcome is RoundOutcome.COMMITTED
        assert (len(done.completed), done.dropped) == (SITES, ())
        # Site i adds i + 1 in every slot.
        (total,) = plant.workbench.totals
        assert {int(value) for block in total.blocks.values() for value in block.total} == {1 + 2 + 3 + 4}
        for site in plant.sites:
            assert sum(isinstance(each, Prepare) for each in site.heard) == 1
            assert sum(isinstance(each, Train) for each in site.heard) == 1


@pytest.mark.parametrize("work", ["unmask", "combine"])
async def test_work_that_the_coordinator_was_killed_over_is_done_again(tmp_path: Path, work: str) -> None:
    async with Plant(tmp_path, SITES) as plant:
        plant.workbench.stalls_in = work
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        async with asyncio.timeout(PATIENCE_S):
            await plant.workbench.stalled.wait()
        plant.workbench.stalls_in = ""
        await plant.restart_daemon()
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED)
        assert [each.outcome for each in detail.rounds] == [RoundOutcome.COMMITTED]
        assert len(plant.workbench.totals) == 1


async def test_a_round_survives_one_restart_after_the_other(tmp_path: Path) -> None:
    async with Plant(tmp_path, SITES) as plant:
        job_id = await hold_at(plant, Train)
        await plant.restart_daemon()
        plant.sites[1].mute = {Reveal}
        await answer_late(plant)
        await plant.until(job_id, lambda detail: detail.awaited == ("site-1",))
        for _ in range(3):
            await plant.restart_daemon()
        await plant.sites[1].answer(plant.sites[1].heard[-1])
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED)
        assert [each.outcome for each in detail.rounds] == [RoundOutcome.COMMITTED]
        assert len(detail.rounds[0].completed) == SITES


async def test_a_message_that_was_stored_and_not_acknowledged_may_come_again_after_the_restart(tmp_path: Path) -> None:
    async with Plant(tmp_path, SITES) as plant:
        job_id = await hold_at(plant, ConfirmSurvivors)
        await plant.restart_daemon()
        plant.sites[0].mute = {Reveal}
        await answer_late(plant)
        await plant.until(job_id, lambda detail: detail.rounds[0].phase is RoundPhase.REVEALING)
        await plant.restart_daemon()
        confirmed = next(each for each in plant.sites[0].heard if isinstance(each, ConfirmSurvivors))
        await plant.sites[0].answer(confirmed)
        await plant.sites[0].answer(plant.sites[0].heard[-1])
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED)
        assert len(detail.rounds[0].completed) == SITES


async def test_time_that_ran_out_while_the_coordinator_was_down_is_given_back(tmp_path: Path) -> None:
    async with Plant(tmp_path, SITES) as plant:
        job_id = await hold_at(plant, MaskAndUpload)
        plant.clock.advance(100_000)
        await plant.restart_daemon()
        plant.timers.advance(RETURN_S - 1)
        (running,) = (await plant.conductor.job_detail(job_id)).rounds
        assert (running.phase, running.dropped) == (RoundPhase.UPLOADING, ())
        plant.timers.advance(1)
        detail = await plant.until(job_id, lambda detail: bool(detail.rounds[0].dropped))
        assert [(drop.site, drop.reason) for drop in detail.rounds[0].dropped] == [(LATE, DropReason.DEADLINE)]


async def test_a_site_that_restarted_while_the_coordinator_was_down_leaves_the_round(tmp_path: Path) -> None:
    async with Plant(tmp_path, SITES) as plant:
        job_id = await hold_at(plant, MaskAndUpload)
        plant.sites[0].process = digest_of("another process")[:16]
        await plant.restart_daemon()
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED)
        (done,) = detail.rounds
        assert [(drop.site, drop.reason) for drop in done.dropped] == [(LATE, DropReason.RESTARTED)]
        assert len(done.completed) == SITES - 1


async def test_the_processes_in_a_round_are_awaited_after_a_restart_and_may_be_lost(tmp_path: Path) -> None:
    async with Plant(tmp_path, SITES) as plant:
        job_id = await hold_at(plant, MaskAndUpload)
        for site in plant.sites:
            await site.disconnect()
        await plant.conductor.stop()
        plant.conductor = plant.new_conductor()
        assert await plant.conductor.start() == {site.name: site.process for site in plant.sites}
        for site in plant.sites[1:]:
            await site.connect()
        await plant.conductor.site_lost(LATE)
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED)
        assert [(drop.site, drop.reason) for drop in detail.rounds[0].dropped] == [(LATE, DropReason.DISCONNECTED)]


async def test_a_site_that_has_not_read_the_result_of_a_round_hears_of_it_after_the_restart(tmp_path: Path) -> None:
    async with Plant(tmp_path, SITES) as plant:
        job_id = await hold_at(plant, Reveal, rounds=2)
        await plant.conductor.pause_job("orders")
        await plant.sites[0].disconnect()
        await answer_late(plant)
        await plant.until_ended(job_id, 1)
        read = len(plant.sites[0].heard)
        await plant.restart_daemon()
        await plant.conductor.resume_job("orders")
        await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED)
        told = next(each for each in plant.sites[0].heard[read:] if isinstance(each, RoundResult | Prepare | Train))
        # It would prepare nothing, and so take part in nothing, before it knows that the round is over.
        assert isinstance(told, RoundResult)
        assert told.round_number == 1


async def lose_journal(plant: Plant, job_id: JobId) -> None:
    """Leave a round as a release without journals did."""
    await plant.store.transact("lose", lambda transaction: transaction.drop_round_entries(job_id))


async def lose_vector(plant: Plant, job_id: JobId) -> None:
    """Leave a round as a backup does, which has no staged vectors."""
    next(plant.folder.glob("site-1-*")).unlink()


@pytest.mark.parametrize("lose", [lose_journal, lose_vector])
async def test_a_round_of_which_something_is_missing_is_interrupted_and_the_job_goes_on(
    tmp_path: Path, lose: Callable[[Plant, JobId], Awaitable[None]]
) -> None:
    async with Plant(tmp_path, SITES) as plant:
        job_id = await hold_at(plant, MaskAndUpload)
        await lose(plant, job_id)
        await plant.restart_daemon()
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED)
        assert [each.outcome for each in detail.rounds] == [RoundOutcome.INTERRUPTED, RoundOutcome.COMMITTED]
        heard = plant.sites[0].heard
        async with asyncio.timeout(30):
            while not isinstance(heard[-1], JobEnded):  # noqa: ASYNC110 - operators see the end before sites read it
                await asyncio.sleep(0.01)
        outcomes = [each.outcome for each in heard if isinstance(each, RoundResult)]
        # The last result comes again with the job's end, for those who have not read it.
        assert outcomes == [RoundOutcome.INTERRUPTED, RoundOutcome.COMMITTED, RoundOutcome.COMMITTED]


async def test_nothing_of_a_round_is_kept_once_it_has_ended(tmp_path: Path) -> None:
    async with Plant(tmp_path, SITES) as plant:
        job_id = await hold_at(plant, MaskAndUpload)

        def count(transaction: Transaction) -> int:
            return len(transaction.list_round_entries(job_id, 1))

        # Its opening, four members, its beginning; keys and shares of all; vectors of all but one.
        assert await plant.store.transact("count", count) == 1 + 4 + 1 + 4 + 4 + 3
        await answer_late(plant)
        await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED)
        assert await plant.store.transact("count", count) == 0


async def test_the_same_message_again_and_again_takes_no_room(tmp_path: Path) -> None:
    async with Plant(tmp_path, SITES) as plant:
        job_id = await hold_at(plant, Reveal)

        def count(transaction: Transaction) -> int:
            return len(transaction.list_round_entries(job_id, 1))

        before = await plant.store.transact("count", count)
        revealed = next(each for each in plant.sites[1].heard if isinstance(each, Reveal))
        for _ in range(5):
            await plant.sites[1].answer(revealed)
        assert await plant.store.transact("count", count) == before


async def test_a_round_goes_on_though_the_call_that_closed_a_phase_was_cut_off(tmp_path: Path) -> None:
    async with Plant(tmp_path, SITES) as plant:
        job_id = await hold_at(plant, Reveal)
        plant.store.holds = "advance_round"
        last = asyncio.create_task(answer_late(plant))
        await plant.store.held.wait()
        last.cancel()
        await asyncio.gather(last, return_exceptions=True)
        plant.store.holds = ""
        plant.store.released.set()
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED)
        assert detail.rounds[0].outcome is RoundOutcome.COMMITTED


async def test_a_coordinator_that_lost_its_lease_acknowledges_nothing_and_its_rounds_go_on_elsewhere(
    tmp_path: Path,
) -> None:
    async with Plant(tmp_path, SITES) as plant:
        shared = plant.store.store
        older, newer = (
            LeaseKeeper(shared, Claim(name=ROUNDS, holder=holder, address="", term_s=600)) for holder in ("a", "b")
        )
        await older.take()
        plant.store.store = FencedStore(shared, older)
        job_id = await hold_at(plant, ConfirmSurvivors)
        before = await shared.transact("read", lambda transaction: transaction.get_job(job_id))
        assert await newer.take(holder_is_dead=True) is None
        # What comes before the loss is noticed is refused, and so is what comes after it, to come again elsewhere.
        for _ in range(2):
            with pytest.raises(LeaseLost):
                await answer_late(plant)
            assert older.lost.is_set()
        assert await shared.transact("read", lambda transaction: transaction.get_job(job_id)) == before
        plant.store.store = FencedStore(shared, newer)
        plant.sites[0].mute = {Reveal}
        await plant.restart_daemon()
        detail = await plant.conductor.job_detail(job_id)
        assert (detail.rounds[0].phase, detail.awaited) == (RoundPhase.CONFIRMING, (LATE,))
        plant.sites[0].mute = set()
        await answer_late(plant)
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED)
        assert len(detail.rounds[0].completed) == SITES
        await newer.give_back()
