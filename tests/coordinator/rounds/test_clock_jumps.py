"""The coordinator's clock is set an hour forward or back, in every phase: no deadline moves and no round is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from holding import ANSWERED_IN, LATE, SITES, answer_late, hold_at
from plant import PATIENCE_S, ManualTimer, Plant, job_toml

from coordinator.jobs.jobfile import read_job_file
from coordinator.rounds.job_runner import RETURN_S
from coordinator.rounds.replies import JobDetail
from coordinator.rounds.setbacks import FIRST_PAUSE_S
from ravan.clock import ManualClock
from ravan.errors import ErrorReason, ProtocolError
from ravan.ids import JobId
from ravan.manifest.instructions import Instruction, MaskAndUpload, Prepare, Train
from ravan.manifest.phases import DropReason, JobState, RoundOutcome, RoundPhase

HOUR_S = 3600.0
JUMPS = (HOUR_S, -HOUR_S)
RULES = read_job_file(job_toml(), source="test").round

in_every_phase = pytest.mark.parametrize("kind", ANSWERED_IN)
either_way = pytest.mark.parametrize("jump", JUMPS, ids=["forward", "back"])


@dataclass
class ElapsedTimers:
    """Timers as an event loop has them: how long is read off the clock once, and then runs by itself."""

    clock: ManualClock
    elapsed: float = 0.0
    due: list[ManualTimer] = field(default_factory=list)

    def call_at(self, at: float, call: Callable[[], None]) -> ManualTimer:
        timer = ManualTimer(self.elapsed + max(0.0, at - self.clock.now()), call)
        self.due.append(timer)
        return timer

    def pass_time(self, seconds: float) -> None:
        """Let time go by, which any clock shows."""
        self.elapsed += seconds
        self.clock.advance(seconds)
        ripe = [timer for timer in self.due if timer.at <= self.elapsed and not timer.cancelled]
        self.due = [timer for timer in self.due if timer not in ripe]
        for timer in ripe:
            timer.call()


def set_timers(plant: Plant) -> ElapsedTimers:
    timers = ElapsedTimers(plant.clock)
    plant.timers = timers  # type: ignore[assignment]
    plant.conductor = plant.new_conductor()
    return timers


def length_of(phase: RoundPhase) -> float:
    return RULES.training_budget_s if phase is RoundPhase.TRAINING else RULES.phase_deadline_s


async def settle() -> None:
    """Let what a timer has begun come to its end, as far as it does."""
    for _ in range(50):
        await asyncio.sleep(0.001)


def assert_whole(detail: JobDetail) -> None:
    (done,) = detail.rounds
    assert (done.outcome, done.dropped, len(done.completed)) == (RoundOutcome.COMMITTED, (), SITES)
    assert all(seconds >= 0 for seconds in done.phase_seconds.values())


@in_every_phase
@either_way
async def test_a_round_goes_on_with_everybody_after_a_jump(
    tmp_path: Path, kind: type[Instruction], jump: float
) -> None:
    async with Plant(tmp_path, SITES) as plant:
        set_timers(plant)
        job_id = await hold_at(plant, kind)
        plant.clock.advance(jump)
        await settle()
        assert (await plant.conductor.job_detail(job_id)).awaited == (LATE,)
        await answer_late(plant)
        assert_whole(await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED))


@in_every_phase
@either_way
async def test_a_deadline_is_neither_sooner_nor_later_for_a_jump(
    tmp_path: Path, kind: type[Instruction], jump: float
) -> None:
    async with Plant(tmp_path, SITES) as plant:
        timers = set_timers(plant)
        job_id = await hold_at(plant, kind)
        plant.clock.advance(jump)
        timers.pass_time(length_of(ANSWERED_IN[kind]) - 1)
        await settle()
        assert (await plant.conductor.job_detail(job_id)).rounds[0].dropped == ()
        timers.pass_time(1)
        detail = await plant.until(job_id, lambda detail: bool(detail.rounds[0].dropped))
        assert [(drop.site, drop.reason) for drop in detail.rounds[0].dropped] == [(LATE, DropReason.DEADLINE)]


@either_way
async def test_a_jump_while_a_phase_is_being_closed_leaves_the_next_one_its_time(tmp_path: Path, jump: float) -> None:
    async with Plant(tmp_path, SITES) as plant:
        timers = set_timers(plant)
        job_id = await hold_at(plant, Train)
        plant.sites[0].mute = set(ANSWERED_IN) - {Train}
        plant.store.holds = "advance_round"
        closing = asyncio.create_task(answer_late(plant))
        await plant.store.held.wait()
        plant.clock.advance(jump)
        plant.store.holds = ""
        plant.store.released.set()
        await closing
        await plant.until(job_id, lambda detail: detail.awaited == (LATE,))
        timers.pass_time(RULES.phase_deadline_s - 1)
        await settle()
        assert (await plant.conductor.job_detail(job_id)).rounds[0].dropped == ()
        timers.pass_time(1)
        await plant.until(job_id, lambda detail: bool(detail.rounds[0].dropped))


@in_every_phase
@either_way
async def test_a_restart_after_a_jump_gives_a_phase_time_to_return_and_no_more_than_it_had(
    tmp_path: Path, kind: type[Instruction], jump: float
) -> None:
    async with Plant(tmp_path, SITES) as plant:
        timers = set_timers(plant)
        job_id = await hold_at(plant, kind)
        plant.clock.advance(jump)
        await plant.restart_daemon()
        timers.pass_time(RETURN_S - 1)
        await settle()
        assert (await plant.conductor.job_detail(job_id)).rounds[0].dropped == ()
        timers.pass_time(max(0.0, length_of(ANSWERED_IN[kind]) - RETURN_S) + 1)
        detail = await plant.until(job_id, lambda detail: bool(detail.rounds[0].dropped))
        assert [(drop.site, drop.reason) for drop in detail.rounds[0].dropped] == [(LATE, DropReason.DEADLINE)]


@either_way
async def test_the_pause_after_a_failed_round_is_at_most_doubled_by_a_jump(tmp_path: Path, jump: float) -> None:
    async with Plant(tmp_path) as plant:
        timers = set_timers(plant)
        plant.workbench.unmask_error = ProtocolError("No.", reason=ErrorReason.CANARY_MISMATCH)
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        await plant.until(job_id, lambda detail: "made no new version" in detail.record.message)
        await settle()
        plant.workbench.unmask_error = None
        plant.clock.advance(jump)
        for _ in range(2):
            timers.pass_time(FIRST_PAUSE_S)
            await settle()
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED)
        assert [each.outcome for each in detail.rounds] == [RoundOutcome.CANARY_MISMATCH, RoundOutcome.COMMITTED]


@either_way
async def test_the_wait_for_sites_that_prepare_is_at_most_doubled_by_a_jump(tmp_path: Path, jump: float) -> None:
    async with Plant(tmp_path, SITES) as plant:
        timers = set_timers(plant)
        plant.sites[0].mute = {Prepare}
        await plant.connect_all()
        job_id: JobId = await plant.submit(rounds=1)
        await plant.until(job_id, lambda detail: "waits a little" in detail.record.message)
        plant.clock.advance(jump)
        for _ in range(2):
            timers.pass_time(plant.settle_s)
            await settle()
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED)
        assert len(detail.rounds[0].completed) == SITES - 1


@either_way
async def test_rounds_under_a_clock_that_jumps_at_every_message_are_exact(tmp_path: Path, jump: float) -> None:
    async with Plant(tmp_path, SITES) as plant:
        set_timers(plant)
        for site in plant.sites:
            site.mute = {MaskAndUpload}
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        async with asyncio.timeout(PATIENCE_S):
            while not all(site.heard and isinstance(site.heard[-1], MaskAndUpload) for site in plant.sites):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        for number, site in enumerate(plant.sites):
            site.mute = set()
            plant.clock.advance(jump if number % 2 else -jump)
            await site.answer(site.heard[-1])
        assert_whole(await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED))
