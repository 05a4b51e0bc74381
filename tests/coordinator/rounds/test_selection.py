"""Who is ready, who is chosen, and what a job that waits says."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from plant import FULL_RAM, draw_plan, job_toml

from coordinator.allocation.policy import DEADLINE_SHARE, AllocationPolicy, SiteCapacity
from coordinator.allocation.ranking import rank_at_random
from coordinator.jobs.jobfile import AllocationTable, Profile, SecureAggregationTable, SuiteName, read_job_file
from coordinator.rounds.candidates import Candidates, Lineup
from coordinator.rounds.changes import Changes
from coordinator.rounds.ports import Job
from coordinator.rounds.selection import Selection, Waiting, select
from coordinator.rounds.timers import LoopTimers
from coordinator.store.records import RoundRecord
from ravan.clock import ManualClock
from ravan.ids import Digest, JobId, SiteId
from ravan.manifest.assignment import MAX_MEMBERS, Suite
from ravan.manifest.phases import DropReason, HoldReason, RoundOutcome, RoundPhase
from ravan.manifest.profile import HardwareProfile, JobProfile, LimitSource

JOB = JobId("job")
OTHER = JobId("other")
A, B, C = SiteId("a"), SiteId("b"), SiteId("c")


def make_job(**settings: Any) -> Job:
    """The plant's job, with other settings of secure aggregation."""
    file = read_job_file(job_toml(), source="job.toml")
    table = {**file.secure_aggregation.model_dump(), "cell_threshold": None, "cell_minimum": None, **settings}
    file = file.model_copy(update={"secure_aggregation": SecureAggregationTable(**table)})
    empty = Digest(bytes(32))
    return Job(
        job_id=JOB,
        file=file,
        plan=draw_plan(file),
        plan_digest=empty,
        model_digest=empty,
        evaluation_digest=empty,
    )


def capacity(ram: int = FULL_RAM, *, aes: bool = False) -> SiteCapacity:
    hardware = HardwareProfile(
        cores=1,
        ram_total_bytes=ram,
        ram_limit_bytes=ram,
        ram_limit_source=LimitSource.MACHINE,
        disk_free_bytes=1,
        aes_instructions=aes,
        cpu_capability="",
        agent_version="",
    )
    job = JobProfile(
        plan_digest=Digest(bytes(32)),
        ram_loaded_bytes=350,
        ram_floor_bytes=50,
        ram_per_matrix_bytes=150,
        step_floor_s=0.1,
        step_per_matrix_s=0.1,
    )
    return SiteCapacity(hardware=hardware, job=job)


def with_allocation(table: AllocationTable) -> Job:
    job = make_job()
    return replace(job, file=job.file.model_copy(update={"allocation": table}))


def with_total(site: SiteCapacity, total: int) -> SiteCapacity:
    return replace(site, hardware=replace(site.hardware, ram_total_bytes=total))


def lineup(*ready: SiteId) -> Lineup:
    return Lineup(ready=ready, preparing=(), busy=(), barred=())


def a_round(number: int, completed: Sequence[SiteId]) -> RoundRecord:
    return RoundRecord(
        job_id=JOB,
        number=number,
        phase=RoundPhase.ENDED,
        outcome=RoundOutcome.COMMITTED,
        started_at=0.0,
        selected=tuple(completed),
        completed=tuple(completed),
    )


def test_members_are_numbered_by_name_and_train_what_they_can_hold() -> None:
    full = [SiteId(f"d{i}") for i in range(3)]
    fleet = {C: capacity(750), A: capacity(600), B: capacity(450), **dict.fromkeys(full, capacity())}
    selection = select(make_job(), lineup(C, A, B, *full), fleet, (), {})
    assert isinstance(selection, Selection)
    assert selection.sites == (A, B, C, *full)
    # 400 for the model, 150 for each matrix, 5 % margin: 577.5 fit 600, 420 fit 450, 735 fit 750.
    assert [selection.tiles_of[site] for site in selection.sites] == [(0,), (), (0, 1), *[(0, 1, 2)] * 3]
    assert selection.remark == ""


def test_what_too_few_can_hold_is_trained_by_nobody_and_said() -> None:
    fleet = {A: capacity(), B: capacity(), C: capacity(750), SiteId("d"): capacity(450)}
    selection = select(make_job(), lineup(*fleet), fleet, (), {})
    assert isinstance(selection, Selection)
    assert [selection.tiles_of[site] for site in selection.sites] == [(0, 1), (0, 1), (0, 1), ()]
    assert selection.remark.startswith(
        "Nobody trains 2 of 6 heads, those of layer.0.query: 2 of 4 sites can hold all heads, and 3 are needed."
    )


def test_a_site_that_is_away_is_waited_for_before_others_are_changed() -> None:
    fleet = {A: capacity(), B: capacity(), C: capacity(750), SiteId("off"): capacity()}
    selection = select(make_job(), lineup(A, B, C), fleet, (), {})
    assert isinstance(selection, Selection)
    assert selection.remark.endswith("To have all trained: wait for off to take part.")


def test_spare_sites_of_the_job_file_count() -> None:
    fleet = {A: capacity(), B: capacity(), C: capacity(), SiteId("d"): capacity(600)}
    for each, tiles in ((make_job(), (0, 1, 2)), (with_allocation(AllocationTable(spare_sites=1)), (0,))):
        selection = select(each, lineup(*fleet), fleet, (), {})
        assert isinstance(selection, Selection)
        assert selection.tiles_of[A] == tiles


def test_random_heads_differ_by_round_and_can_be_drawn_again() -> None:
    fleet = dict.fromkeys((A, B, C), capacity())
    job = with_allocation(AllocationTable(policy=AllocationPolicy.RANDOM, share=0.3))
    history = [a_round(number, (A, B, C)) for number in range(1, 21)]
    chosen = []
    for played in range(20):
        selection = select(job, lineup(*fleet), fleet, history[:played], {})
        assert isinstance(selection, Selection)
        assert selection == select(job, lineup(*fleet), fleet, history[:played], {})
        assert selection.tiles_of[A] == selection.tiles_of[B] == selection.tiles_of[C]
        assert selection.tiles_of[A] == (rank_at_random(job.plan.run_id, played + 1)(3)[0],)
        chosen.append(selection.tiles_of[A])
    assert set(chosen) == {(0,), (1,), (2,)}


def test_heads_are_ranked_by_the_norms_of_the_version() -> None:
    fleet = dict.fromkeys((A, B, C), capacity())
    job = with_allocation(AllocationTable(policy=AllocationPolicy.WEIGHT))
    norms = {head: (0.0, 3.0, 2.0)[head.matrix] for head in job.plan.head_ids()}
    selection = select(job, lineup(*fleet), fleet, (), norms)
    assert isinstance(selection, Selection)
    # Two of three tiles, half of them rounded up; tile 0 is the uppermost matrix, number 2.
    assert selection.tiles_of == dict.fromkeys((A, B, C), (0, 1))
    selection = select(job, lineup(*fleet), fleet, (), {**norms, **dict.fromkeys(job.plan.head_ids()[:2], 9.0)})
    assert isinstance(selection, Selection)
    assert selection.tiles_of == dict.fromkeys((A, B, C), (1, 2))


def gradient_job(**settings: Any) -> Job:
    return with_allocation(AllocationTable(policy=AllocationPolicy.GRADIENT, **settings))


def test_sites_score_all_that_they_can_hold_while_a_round_is_to_come() -> None:
    strong = [SiteId(f"d{i}") for i in range(3)]
    fleet = {A: capacity(600), B: capacity(450), C: capacity(600), **dict.fromkeys(strong, capacity())}
    job = gradient_job()
    planned = job.file.job.rounds
    for played, wanted in ((0, True), (planned - 2, True), (planned - 1, False)):
        history = [a_round(number, strong) for number in range(1, played + 1)]
        selection = select(job, lineup(*fleet), fleet, history, {})
        assert isinstance(selection, Selection)
        reach = {A: (0,), B: (), C: (0,), **dict.fromkeys(strong, (0, 1, 2))}
        assert selection.scored_of == (reach if wanted else dict.fromkeys(reach, ()))
        # Nothing is known of any head: half of them, from the top.
        assert selection.tiles_of == {A: (0,), B: (), C: (0,), **dict.fromkeys(strong, (0, 1))}


@pytest.mark.parametrize(
    "table",
    [AllocationTable(), AllocationTable(policy=AllocationPolicy.WEIGHT), gradient_job(share=1.0).file.allocation],
    ids=["coverage", "weight", "all of them"],
)
def test_nobody_scores_heads_for_a_round_that_ranks_none(table: AllocationTable) -> None:
    fleet = dict.fromkeys((A, B, C), capacity())
    selection = select(with_allocation(table), lineup(*fleet), fleet, (), {})
    assert isinstance(selection, Selection)
    assert selection.scored_of == dict.fromkeys((A, B, C), ())


def test_heads_are_ranked_by_the_scores_of_the_last_round_that_made_a_version() -> None:
    fleet = dict.fromkeys((A, B, C), capacity())
    job = gradient_job(share=0.3)

    def scored(number: int, steepest: int, outcome: RoundOutcome = RoundOutcome.COMMITTED) -> RoundRecord:
        scores = {head: float(head.matrix == steepest) for head in job.plan.head_ids()}
        return replace(a_round(number, (A, B, C)), scores=scores, outcome=outcome)

    def trained(*history: RoundRecord) -> tuple[int, ...]:
        selection = select(job, lineup(*fleet), fleet, history, {})
        assert isinstance(selection, Selection)
        assert selection.tiles_of[A] == selection.tiles_of[B] == selection.tiles_of[C]
        return selection.tiles_of[A]

    assert trained() == (0,)
    assert trained(scored(1, steepest=0)) == (2,)
    assert trained(scored(1, steepest=0), scored(2, steepest=1)) == (1,)
    # What a round that made no version found is of no version, and its updates may be offered again.
    failed = scored(2, steepest=1, outcome=RoundOutcome.INTERNAL)
    assert trained(scored(1, steepest=0), failed) == (2,)
    # No score was released: from the top.
    assert trained(scored(1, steepest=0), a_round(2, (A, B, C))) == (0,)


def test_scoring_takes_about_a_step_of_the_deadline() -> None:
    job = gradient_job()
    seconds = job.plan.training.steps * 0.4 / DEADLINE_SHARE
    tables = job.file.model_copy(update={"round": job.file.round.model_copy(update={"training_deadline_s": seconds})})
    fleet = dict.fromkeys((A, B, C), capacity())
    reach = {}
    for policy in (AllocationPolicy.WEIGHT, AllocationPolicy.GRADIENT):
        file = tables.model_copy(update={"allocation": AllocationTable(policy=policy, share=1.0)})
        selection = select(replace(job, file=file), lineup(*fleet), fleet, (), dict.fromkeys(job.plan.head_ids(), 0.0))
        assert isinstance(selection, Selection)
        reach[policy] = selection.tiles_of[A]
    assert reach == {AllocationPolicy.WEIGHT: (0, 1, 2), AllocationPolicy.GRADIENT: (0, 1)}


def test_a_job_that_would_train_nothing_waits_and_says_what_to_change() -> None:
    fleet = {A: capacity(), B: capacity(), C: capacity(450)}
    job = make_job()
    bare = replace(job, plan=replace(job.plan, dense=()))
    waiting = select(bare, lineup(*fleet), fleet, (), {})
    assert isinstance(waiting, Waiting)
    assert waiting.sentence.startswith("Nobody trains 6 of 6 heads")
    assert isinstance(select(job, lineup(*fleet), fleet, (), {}), Selection)


def test_where_heads_are_all_that_trains_a_site_that_holds_none_is_left_at_home() -> None:
    fleet = {A: capacity(), B: capacity(450), C: capacity(), SiteId("d"): capacity()}
    job = make_job()
    bare = replace(job, plan=replace(job.plan, dense=()))
    selection = select(bare, lineup(*fleet), fleet, (), {})
    assert isinstance(selection, Selection)
    assert selection.sites == (A, C, SiteId("d"))
    with_classifier = select(job, lineup(*fleet), fleet, (), {})
    assert isinstance(with_classifier, Selection)
    assert with_classifier.sites == (A, B, C, SiteId("d"))


def test_a_job_of_heads_alone_waits_when_too_few_hold_one() -> None:
    fleet = {A: capacity(), B: capacity(450), C: capacity(), SiteId("d"): capacity()}
    job = make_job()
    file = job.file.model_copy(update={"round": job.file.round.model_copy(update={"minimum_sites": 4})})
    bare = replace(job, file=file, plan=replace(job.plan, dense=()))
    waiting = select(bare, lineup(*fleet), fleet, (), {})
    assert isinstance(waiting, Waiting)
    assert waiting.sentence.startswith("Waits for sites: 3 ready, 4 needed")


def test_sites_that_cannot_take_part_are_among_those_that_may_be_given_memory() -> None:
    fleet = {A: capacity(), B: capacity(), C: capacity(450), SiteId("d"): capacity(400)}
    fleet[SiteId("d")] = with_total(fleet[SiteId("d")], 8 << 20)
    selection = select(make_job(), lineup(*fleet), fleet, (), {})
    assert isinstance(selection, Selection)
    assert selection.sites == (A, B, C)
    assert selection.remark.endswith("To have all trained: raise the memory limit of d to 1 MiB.")


@pytest.mark.parametrize(
    ("wanted", "with_aes", "without_aes"),
    [
        ("auto", Suite.AES_128_CTR, Suite.CHACHA20),
        ("aes-128-ctr", Suite.AES_128_CTR, Suite.AES_128_CTR),
        ("aes-256-ctr", Suite.AES_256_CTR, Suite.AES_256_CTR),
        ("chacha20", Suite.CHACHA20, Suite.CHACHA20),
    ],
)
def test_the_keystream_follows_from_the_members_cpus(wanted: str, with_aes: Suite, without_aes: Suite) -> None:
    job = make_job(suite=SuiteName(wanted))
    fleet = dict.fromkeys((A, B), capacity(aes=True))
    for last, suite in ((capacity(aes=True), with_aes), (capacity(aes=False), without_aes)):
        selection = select(job, lineup(A, B, C), {**fleet, C: last}, (), {})
        assert isinstance(selection, Selection)
        assert selection.suite is suite


def test_a_site_that_is_not_chosen_does_not_decide_the_keystream() -> None:
    fleet = {A: capacity(aes=True), B: capacity(aes=True), C: capacity(aes=True), SiteId("d"): capacity(400)}
    selection = select(make_job(), lineup(*fleet), fleet, (), {})
    assert isinstance(selection, Selection)
    assert selection.suite is Suite.AES_128_CTR


def test_classes_of_the_weighted_profile_fill_a_cell() -> None:
    sites = [SiteId(f"s{i}") for i in range(8)]
    # 577.5 fit 600: one matrix; three sites, too few for a cell, hold all three.
    fleet = {site: capacity(600) for site in sites[:5]} | {site: capacity() for site in sites[5:]}
    job = make_job(profile=Profile.WEIGHTED, cell_threshold=3, cell_minimum=4)
    selection = select(job, lineup(*sites), fleet, (), {})
    assert isinstance(selection, Selection)
    assert set(selection.tiles_of.values()) == {(0,)}
    uniform = select(make_job(), lineup(*sites), fleet, (), {})
    assert isinstance(uniform, Selection)
    assert set(uniform.tiles_of.values()) == {(0,), (0, 1, 2)}


def test_a_site_that_cannot_hold_the_model_is_named() -> None:
    fleet = {A: capacity(), B: capacity(), C: capacity(400)}
    waiting = select(make_job(), lineup(A, B, C), fleet, (), {})
    assert isinstance(waiting, Waiting)
    assert waiting.sentence == "Waits for sites: 2 ready, 3 needed; c is short of memory."


def test_above_the_largest_roster_those_who_took_part_least_are_chosen() -> None:
    sites = tuple(SiteId(f"s{i:04}") for i in range(MAX_MEMBERS + 10))
    rounds = (a_round(1, sites[:20]), a_round(2, sites[:10]))
    selection = select(make_job(), lineup(*sites), dict.fromkeys(sites, capacity()), rounds, {})
    assert isinstance(selection, Selection)
    assert selection.sites == sites[10:]


def test_a_new_process_knows_no_job() -> None:
    candidates = Candidates()
    assert candidates.attach(A, b"1") is None
    candidates.prepare(A, JOB)
    candidates.make_ready(A, JOB)
    assert candidates.attach(A, b"1") == b"1"
    assert candidates.line_up(JOB).ready == (A,)
    assert candidates.attach(A, b"2") == b"1"
    assert candidates.line_up(JOB).ready == ()
    assert candidates.needs_preparation(A, JOB)


def test_a_site_in_a_round_is_busy_until_released() -> None:
    candidates = Candidates()
    candidates.attach(A, b"1")
    for job in (JOB, OTHER):
        candidates.prepare(A, job)
        assert candidates.line_up(job).preparing == (A,)
        candidates.make_ready(A, job)
    candidates.engage([A], JOB)
    assert (candidates.line_up(OTHER).ready, candidates.line_up(OTHER).busy) == ((), ((A, JOB),))
    candidates.release(A, OTHER)
    assert candidates.line_up(OTHER).busy == ((A, JOB),)
    candidates.forget_job(JOB)
    assert candidates.line_up(OTHER).ready == (A,)
    assert candidates.line_up(JOB) == lineup()


def test_a_barred_site_is_neither_ready_nor_preparing_until_asked_again() -> None:
    candidates = Candidates()
    candidates.attach(A, b"1")
    candidates.prepare(A, JOB)
    candidates.bar(A, JOB, DropReason.DISK)
    assert candidates.line_up(JOB) == Lineup(ready=(), preparing=(), busy=(), barred=((A, DropReason.DISK),))
    assert candidates.needs_preparation(A, JOB)
    candidates.prepare(A, JOB)
    assert candidates.line_up(JOB).preparing == (A,)


def test_unknown_sites_change_nothing() -> None:
    candidates = Candidates()
    candidates.prepare(A, JOB)
    candidates.make_ready(A, JOB)
    candidates.bar(A, JOB, DropReason.DATA)
    candidates.release(A, JOB)
    candidates.lose(A)
    assert candidates.online() == ()
    assert candidates.line_up(JOB) == lineup()


async def test_whoever_waits_hears_of_the_next_change() -> None:
    changes = Changes()
    waiting = asyncio.create_task(changes.beyond(JOB, 0))
    changes.note(OTHER)
    changes.note(JOB)
    assert await waiting == 1
    assert await changes.beyond(JOB, 0) == 1
    changes.note(JOB)
    assert await changes.beyond(JOB, 1) == 2


async def test_a_call_whose_time_has_passed_is_made_soon_and_a_cancelled_one_never() -> None:
    clock = ManualClock()
    made = asyncio.Event()
    called: list[str] = []
    timers = LoopTimers(clock)
    timers.call_at(clock.now() - 1, lambda: called.append("cancelled")).cancel()
    timers.call_at(clock.now() + 3600, lambda: called.append("far off"))
    timers.call_at(clock.now() - 1, made.set)
    async with asyncio.timeout(20):
        await made.wait()
    assert called == []


def test_the_machine_imports_neither_network_nor_database_nor_torch() -> None:
    code = "import sys, coordinator.rounds.machine; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"grpc", "sqlalchemy", "pydantic", "torch", "google.protobuf", "structlog"}.intersection(modules)


def of_version(version: str) -> SiteCapacity:
    site = capacity()
    return replace(site, hardware=replace(site.hardware, agent_version=version))


def test_sites_with_too_old_an_agent_are_held_back_and_named() -> None:
    d = SiteId("d")
    fleet = {A: of_version("0.2.0"), B: of_version("0.10"), C: of_version("0.2"), d: of_version("0.1.9")}
    selection = select(make_job(), lineup(*fleet), fleet, (), {}, minimum_agent_version="0.2.0")
    assert isinstance(selection, Selection)
    assert selection.sites == (A, B, C)
    assert selection.holds[d].reason is HoldReason.OUTDATED
    assert selection.message == "d is held back: its agent is 0.1.9, older than 0.2.0."
    everybody = select(make_job(), lineup(*fleet), fleet, (), {})
    assert isinstance(everybody, Selection)
    assert (everybody.sites, everybody.message) == ((A, B, C, d), "")


def test_a_job_waits_for_sites_to_be_upgraded_and_says_so() -> None:
    fleet = {A: of_version("0.2.0"), B: of_version("0.2.0"), C: of_version("")}
    waiting = select(make_job(), lineup(*fleet), fleet, (), {}, minimum_agent_version="0.2.0")
    assert waiting == Waiting(
        sentence="Waits for sites: 2 ready, 3 needed; c is held back: its agent tells no version, and 0.2.0 is the"
        " oldest that takes part."
    )


def test_a_job_may_ask_for_newer_agents_than_the_others() -> None:
    job = make_job()
    table = job.file.job.model_copy(update={"minimum_agent_version": "0.3"})
    job = replace(job, file=job.file.model_copy(update={"job": table}))
    fleet = {A: of_version("0.3"), B: of_version("0.3.1"), C: of_version("0.4"), SiteId("d"): of_version("0.2")}
    selection = select(job, lineup(*fleet), fleet, (), {}, minimum_agent_version="0.1")
    assert isinstance(selection, Selection)
    assert selection.sites == (A, B, C)
    assert selection.message == "d is held back: its agent is 0.2, older than 0.3."


def test_held_back_sites_are_named_while_they_are_there() -> None:
    fleet = {**dict.fromkeys((A, B, C), of_version("0.2.0")), SiteId("away"): of_version("0.1")}
    selection = select(make_job(), lineup(A, B, C), fleet, (), {}, minimum_agent_version="0.2.0")
    assert isinstance(selection, Selection)
    assert selection.message == ""
