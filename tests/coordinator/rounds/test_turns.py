"""Several jobs over the same sites: whose turn it is, that none starves, and what a job that waits says."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plant import Plant, Site

from coordinator.rounds.candidates import Candidates, Lineup
from coordinator.rounds.turns import Turns
from ravan.ids import JobId, SiteId
from ravan.manifest.instructions import MaskAndUpload, Train
from ravan.manifest.phases import JobState

X, Y, Z = JobId("x"), JobId("y"), JobId("z")
A, B, C = SiteId("a"), SiteId("b"), SiteId("c")


def lineup(*ready: SiteId) -> Lineup:
    return Lineup(ready=ready, preparing=(), busy=(), barred=())


def test_sites_are_kept_for_the_job_whose_last_round_ended_first() -> None:
    turns = Turns()
    for since, job in ((3.0, X), (1.0, Y), (2.0, Z)):
        turns.enter(job, since)
    turns.claim(Y, [A])
    turns.claim(Z, [A, B])
    assert turns.leave_to_others(Y, lineup(A, B, C)) == lineup(A, B, C)
    left = turns.leave_to_others(Z, lineup(A, B, C))
    assert (left.ready, left.kept) == ((B, C), ((A, Y),))
    left = turns.leave_to_others(X, lineup(A, B, C))
    assert (left.ready, left.kept) == ((C,), ((A, Y), (B, Z)))
    assert left.measured == (A, B, C)


def test_a_job_whose_round_ends_goes_behind_all_others_also_when_the_clock_was_set_back() -> None:
    turns = Turns()
    turns.enter(X, 10.0)
    turns.enter(Y, 20.0)
    turns.claim(X, [A])
    turns.begin(X)
    assert turns.leave_to_others(Y, lineup(A)).kept == ()
    turns.end(X, 5.0)
    turns.claim(X, [A])
    turns.claim(Y, [A])
    assert turns.leave_to_others(X, lineup(A)).kept == ((A, Y),)
    assert turns.leave_to_others(Y, lineup(A)).kept == ()


def test_a_claim_that_shrinks_gives_something_up() -> None:
    turns = Turns()
    turns.enter(X, 0.0)
    assert not turns.claim(X, [A, B])
    assert not turns.claim(X, [A, B, C])
    assert turns.claim(X, [B, C])
    assert turns.claim(X, [])
    assert not turns.claim(X, [])


@dataclass
class Scene:
    """Jobs that need so many of the sites that they know; rounds end when they are told."""

    needs: dict[JobId, int]
    knows: dict[JobId, frozenset[SiteId]]
    candidates: Candidates = field(default_factory=Candidates)
    turns: Turns = field(default_factory=Turns)
    running: dict[JobId, tuple[SiteId, ...]] = field(default_factory=dict)
    overtaken: dict[JobId, Counter[JobId]] = field(default_factory=dict)
    """For each job that waits: who began a round with a site that it claims."""
    began: Counter[JobId] = field(default_factory=Counter)
    now: float = 0.0

    def __post_init__(self) -> None:
        for site in frozenset().union(*self.knows.values()):
            self.candidates.attach(site, b"")
            for job, known in self.knows.items():
                if site in known:
                    self.candidates.make_ready(site, job)
        for job in self.needs:
            self.turns.enter(job, 0.0)

    def take_turn(self, job: JobId) -> None:
        """Do what a runner does."""
        if job in self.running:
            return
        mine = self.turns.leave_to_others(job, self.candidates.line_up(job))
        if len(mine.ready) < self.needs[job]:
            enough = len(mine.measured) >= self.needs[job]
            self.turns.claim(job, mine.measured if enough else ())
            self.overtaken.setdefault(job, Counter())
            return
        self.candidates.engage(mine.ready, job)
        self.turns.begin(job)
        self.running[job] = mine.ready
        self.began[job] += 1
        self.overtaken.pop(job, None)
        for other, counts in self.overtaken.items():
            if self.knows[other] & set(mine.ready):
                counts[job] += 1

    def end(self, job: JobId) -> None:
        if job in self.running:
            self.turns.end(job, self.now)
            for site in self.running.pop(job):
                self.candidates.release(site, job)


SITES = [SiteId(f"s{i}") for i in range(6)]
JOBS = [JobId(f"j{i}") for i in range(4)]
KNOWN = st.sets(st.sampled_from(SITES), min_size=1).map(frozenset)
KNOWS = st.fixed_dictionaries(dict.fromkeys(JOBS, KNOWN))
NEEDS = st.fixed_dictionaries(dict.fromkeys(JOBS, st.integers(1, 6)))
STEPS = st.lists(st.tuples(st.sampled_from(JOBS), st.booleans()), max_size=120)


@settings(deadline=None)
@given(
    st.fixed_dictionaries(dict.fromkeys(JOBS, KNOWN)),
    st.fixed_dictionaries(dict.fromkeys(JOBS, st.integers(1, 6))),
    STEPS,
)
def test_nobody_is_overtaken_twice_over_a_site_that_it_waits_for(
    knows: dict[JobId, frozenset[SiteId]], needs: dict[JobId, int], steps: list[tuple[JobId, bool]]
) -> None:
    scene = Scene(needs={job: min(needs[job], len(knows[job])) for job in JOBS}, knows=knows)
    for job, ends in steps:
        scene.now += 1
        if ends:
            scene.end(job)
        # Whoever is nudged may be first, and the one whose round has just ended is quickest.
        for each in (job, *JOBS):
            scene.take_turn(each)
        for counts in scene.overtaken.values():
            assert max(counts.values(), default=0) <= 1


@settings(deadline=None)
@given(KNOWS, NEEDS)
def test_every_job_gets_its_rounds_as_long_as_rounds_end(
    knows: dict[JobId, frozenset[SiteId]], needs: dict[JobId, int]
) -> None:
    scene = Scene(needs={job: min(needs[job], len(knows[job])) for job in JOBS}, knows=knows)
    for step in range(20 * len(JOBS)):
        scene.now += 1
        scene.end(JOBS[step % len(JOBS)])
        for each in JOBS:
            scene.take_turn(each)
    # Each job's round is ended twenty times. A job waits for the rounds that run, then for one of each of the three
    # others, and then has its own: five of those times.
    assert min(scene.began[job] for job in JOBS) >= 4


def trained_in_turn(site: Site) -> list[str]:
    """The jobs of the rounds that a site took part in, in order."""
    rounds = [each for each in site.heard if isinstance(each, Train)]
    return [site.open(each)[0].job_id for each in rounds]


async def test_jobs_over_the_same_sites_take_turns(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        plant.sites[0].mute = {Train}
        await plant.connect_all()
        first = await plant.submit(rounds=3, name="first")
        await plant.until(first, lambda detail: detail.awaited == ("site-0",))
        others = []
        for name in ("second", "third"):
            plant.timers.advance(1)
            others.append(job := await plant.submit(rounds=3, name=name))
            await plant.until(job, lambda detail: len(detail.ready_sites) == 4 and bool(detail.record.message))
        plant.sites[0].mute = set()
        await plant.sites[0].answer(next(each for each in plant.sites[0].heard if isinstance(each, Train)))
        for job in (first, *others):
            await plant.until(job, lambda detail: detail.record.state is JobState.COMPLETED)
        assert trained_in_turn(plant.sites[1]) == ["job-first", "job-second", "job-third"] * 3


async def test_a_job_that_needs_all_sites_is_not_kept_waiting_by_one_that_needs_few(tmp_path: Path) -> None:
    async with Plant(tmp_path, sites=6) as plant:
        # Whoever holds up a round of the small job keeps three sites away from the large one.
        plant.sites[0].mute = {MaskAndUpload}
        for site in plant.sites[:3]:
            await site.connect()
        small = await plant.submit(rounds=4, name="small")
        await plant.until(small, lambda detail: detail.awaited == ("site-0",))
        for site in plant.sites[3:]:
            await site.connect()
        large = await plant.submit(rounds=1, name="large", minimum_sites=6)
        waiting = await plant.until(large, lambda detail: len(detail.ready_sites) == 6 and bool(detail.record.message))
        assert waiting.record.message == (
            "Waits for sites: 3 ready, 6 needed; site-0, site-1, site-2 in a round of job-small."
        )
        plant.sites[0].mute = set()
        await plant.sites[0].answer(next(each for each in plant.sites[0].heard if isinstance(each, MaskAndUpload)))
        await plant.until(large, lambda detail: detail.record.state is JobState.COMPLETED)
        await plant.until(small, lambda detail: detail.record.state is JobState.COMPLETED)
        assert trained_in_turn(plant.sites[0])[:2] == ["job-small", "job-large"]


async def test_sites_that_no_other_job_can_use_are_not_kept_for_it(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        await plant.connect_all()
        hopeless = await plant.submit(rounds=1, name="hopeless", minimum_sites=5)
        await plant.until(hopeless, lambda detail: "4 ready, 5 needed" in detail.record.message)
        other = await plant.submit(rounds=2, name="other")
        await plant.until(other, lambda detail: detail.record.state is JobState.COMPLETED)


async def test_a_paused_job_keeps_no_sites_to_itself(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        plant.sites[0].mute = {Train}
        await plant.connect_all()
        first = await plant.submit(rounds=2, name="first")
        await plant.until(first, lambda detail: detail.awaited == ("site-0",))
        second = await plant.submit(rounds=1, name="second")
        await plant.until(second, lambda detail: "in a round of" in detail.record.message)
        await plant.conductor.pause_job(second)
        plant.sites[0].mute = set()
        await plant.sites[0].answer(next(each for each in plant.sites[0].heard if isinstance(each, Train)))
        await plant.until(first, lambda detail: detail.record.state is JobState.COMPLETED)
        await plant.conductor.resume_job(second)
        await plant.until(second, lambda detail: detail.record.state is JobState.COMPLETED)


@pytest.mark.parametrize("restarts", [False, True])
async def test_jobs_beyond_the_limit_are_queued_and_nobody_prepares_them_before_their_time(
    tmp_path: Path, restarts: bool
) -> None:
    async with Plant(tmp_path, jobs_at_once=1) as plant:
        plant.sites[0].mute = {Train}
        await plant.connect_all()
        first = await plant.submit(rounds=1, name="first")
        await plant.until(first, lambda detail: detail.awaited == ("site-0",))
        second, third = [await plant.submit(rounds=1, name=name) for name in ("second", "third")]
        for job in (second, third):
            detail = await plant.until(job, lambda detail: bool(detail.record.message))
            assert detail.record.message == (
                "Queued: 1 run at once here ([scheduling] jobs_at_once), and job-first came first."
            )
            assert (detail.record.state, detail.ready_sites) == (JobState.PREPARING, ())
        assert plant.metrics.queued == 2
        if restarts:
            await plant.until_acknowledged()
            await plant.restart_daemon()
        plant.sites[0].mute = set()
        await plant.sites[0].answer(next(each for each in plant.sites[0].heard if isinstance(each, Train)))
        for job in (first, second, third):
            await plant.until(job, lambda detail: detail.record.state is JobState.COMPLETED)
        assert trained_in_turn(plant.sites[1]) == ["job-first", "job-second", "job-third"]
        assert plant.metrics.queued == 0


async def test_a_paused_job_makes_room_for_a_queued_one_and_comes_before_it_again(tmp_path: Path) -> None:
    async with Plant(tmp_path, jobs_at_once=1) as plant:
        plant.sites[0].mute = {Train}
        await plant.connect_all()
        first = await plant.submit(rounds=2, name="first")
        await plant.until(first, lambda detail: detail.awaited == ("site-0",))
        await plant.conductor.pause_job(first)
        second = await plant.submit(rounds=1, name="second")
        plant.sites[0].mute = set()
        await plant.sites[0].answer(next(each for each in plant.sites[0].heard if isinstance(each, Train)))
        await plant.until(second, lambda detail: detail.record.state is JobState.COMPLETED)
        assert (await plant.conductor.job_detail(first)).record.state is JobState.PAUSED
        await plant.conductor.resume_job(first)
        await plant.until(first, lambda detail: detail.record.state is JobState.COMPLETED)
        assert trained_in_turn(plant.sites[1]) == ["job-first", "job-second", "job-first"]


async def test_a_job_that_comes_up_again_is_prepared_by_sites_that_came_in_the_meantime(tmp_path: Path) -> None:
    async with Plant(tmp_path, jobs_at_once=1) as plant:
        waiter, *others, newcomer = plant.sites
        waiter.mute = {Train}
        for site in (waiter, *others):
            await site.connect()

        async def hold(job: JobId, number: int) -> None:
            await plant.until(job, lambda detail: len(detail.rounds) == number and detail.awaited == (waiter.name,))
            await plant.until_acknowledged()

        async def go_on() -> None:
            await waiter.answer(next(each for each in reversed(waiter.heard) if isinstance(each, Train)))

        older = await plant.submit(rounds=2, name="older")
        await hold(older, 1)
        await plant.conductor.pause_job(older)
        younger = await plant.submit(rounds=2, name="younger")
        await go_on()
        await hold(younger, 1)
        # The older one may run again, and the younger one is queued from its next round on.
        await plant.conductor.resume_job(older)
        await go_on()
        await hold(older, 2)
        await plant.until(younger, lambda detail: detail.record.message.startswith("Queued"))
        await newcomer.connect()
        await plant.until(older, lambda detail: newcomer.name in detail.ready_sites)
        assert newcomer.name not in (await plant.conductor.job_detail(younger)).ready_sites
        await go_on()
        detail = await plant.until(younger, lambda detail: newcomer.name in detail.ready_sites)
        assert detail.record.state is not JobState.COMPLETED
