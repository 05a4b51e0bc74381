"""How long sites have for training, by a number or by what they have measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from plant import Plant
from test_selection import A, B, C, capacity, gradient_job, lineup, make_job

from coordinator.allocation.policy import SiteCapacity
from coordinator.allocation.tiles import form_tiles
from coordinator.jobs.jobfile import RoundTable
from coordinator.rounds.deadline import FLOOR_S, MARGIN, predict_training_s, settle_deadline
from coordinator.rounds.journal import read_journal
from coordinator.rounds.ports import Job
from coordinator.rounds.selection import Selection, select
from coordinator.store.base import Transaction
from coordinator.store.records import EntryKind
from ravan.ids import SiteId
from ravan.manifest.instructions import Train
from ravan.manifest.phases import DropReason, JobState

AUTO = {"training_deadline_s": 'training_deadline_s = "auto"'}


def slow(site: SiteCapacity, step_s: float) -> SiteCapacity:
    """A site whose steps take so long with the dense blocks, and as much again for each of the three matrices."""
    return replace(site, job=replace(site.job, step_floor_s=step_s, step_per_matrix_s=step_s))


def automatic(job: Job, longest: float = 1800.0) -> Job:
    table = RoundTable(minimum_sites=3, training_deadline_s="auto", longest_training_s=longest)
    return replace(job, file=job.file.model_copy(update={"round": table}))


def deadline_of(job: Job, fleet: dict[SiteId, SiteCapacity]) -> float:
    selection = select(job, lineup(*fleet), fleet, (), {})
    assert isinstance(selection, Selection)
    return selection.training_deadline_s


def test_a_step_costs_all_layers_above_the_lowest_that_it_trains() -> None:
    job = make_job()
    profile = slow(capacity(), 2.0).job
    tiles = form_tiles(job.plan)
    assert predict_training_s(tiles, profile, 10, (), ()) == 10 * 2.0
    assert predict_training_s(tiles, profile, 10, (1,), ()) == 10 * (2.0 + 2 * 2.0)
    assert predict_training_s(tiles, profile, 10, (0, 2), ()) == 10 * (2.0 + 3 * 2.0)
    assert predict_training_s(tiles, profile, 10, (0,), (0, 1, 2)) == 10 * (2.0 + 2.0) + (2.0 + 3 * 2.0)


def test_a_number_is_taken_as_it_is() -> None:
    assert settle_deadline(RoundTable(training_deadline_s=7.5), [1e6]) == 7.5
    assert RoundTable(training_deadline_s=7.5, longest_training_s=9.0).training_budget_s == 7.5
    assert RoundTable(training_deadline_s="auto", longest_training_s=9.0).training_budget_s == 9.0


@given(
    st.lists(st.floats(0, 1e5), min_size=1, max_size=9),
    st.lists(st.floats(0, 1e5), max_size=3),
    st.floats(min_value=1, max_value=1e5),
)
def test_an_automatic_deadline_follows_the_slowest_within_its_bounds(
    predicted: list[float], others: list[float], longest: float
) -> None:
    table = RoundTable(training_deadline_s="auto", longest_training_s=longest)
    found = settle_deadline(table, predicted)
    assert found <= longest
    assert found >= min(FLOOR_S, longest)
    assert found in {longest, FLOOR_S, MARGIN * max(predicted)}
    assert settle_deadline(table, [*predicted, *others]) >= found


def test_the_slowest_selected_site_counts() -> None:
    job = automatic(make_job())
    steps = job.plan.training.steps
    quick, weak = slow(capacity(), 1.0), slow(capacity(600), 3.0)
    # All three matrices of the quick ones cost 4 s a step; the weak site trains one: 6 s.
    assert deadline_of(job, dict.fromkeys((A, B, C), quick)) == MARGIN * steps * 4.0
    assert deadline_of(job, {A: quick, B: quick, C: quick, SiteId("d"): weak}) == MARGIN * steps * 6.0
    # One that is too slow for the longest deadline gets fewer heads, and does not stretch it.
    assert deadline_of(job, {A: quick, B: quick, C: quick, SiteId("d"): slow(capacity(), 30.0)}) == 1800.0
    hopeless = slow(capacity(), 60.0)
    assert deadline_of(job, {A: quick, B: quick, C: quick, SiteId("d"): hopeless}) == MARGIN * steps * 4.0


def test_scoring_counts_as_a_step() -> None:
    job = automatic(gradient_job(share=0.3))
    steps = job.plan.training.steps
    assert deadline_of(job, dict.fromkeys((A, B, C), slow(capacity(), 3.0))) == MARGIN * (steps * 6.0 + 12.0)


def test_heads_are_allotted_within_the_longest_deadline_and_the_sentence_names_that() -> None:
    job = automatic(make_job(), longest=200.0)
    fleet = {A: slow(capacity(), 1.0), B: slow(capacity(), 1.0), C: slow(capacity(), 2.0)}
    selection = select(job, lineup(*fleet), fleet, (), {})
    assert isinstance(selection, Selection)
    # 40 steps of 2 s, over 80 %: 100 s for the classifier alone and 200 s for one matrix.
    assert selection.tiles_of == dict.fromkeys((A, B, C), (0,))
    assert "in a new job set [round] longest_training_s = 400" in selection.remark


async def test_a_silent_site_is_dropped_at_the_measured_deadline_also_after_a_restart(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        plant.sites[0].slowness = 10.0
        plant.sites[3].mute = {Train}
        await plant.connect_all()
        job_id = await plant.submit(rounds=1, settings=AUTO)
        await plant.until(job_id, lambda detail: detail.awaited == ("site-3",))
        began = plant.clock.now()
        # 40 steps of 10 x 0.4 s, twice.
        assert ("round began", 320.0) in plant.metrics.said
        # What a site reports in the meantime is for the next round.
        plant.sites[0].slowness = 1.0
        await plant.until_acknowledged()
        plant.timers.advance(200)
        await plant.restart_daemon()
        detail = await plant.conductor.job_detail(job_id)
        assert detail.rounds[0].deadline_at == began + 320
        plant.timers.advance(119)
        assert (await plant.conductor.job_detail(job_id)).awaited == ("site-3",)
        plant.timers.advance(1)
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED)
        assert [(drop.site, drop.reason) for drop in detail.rounds[0].dropped] == [("site-3", DropReason.DEADLINE)]


async def test_a_round_that_an_older_release_opened_takes_its_deadline_from_the_job_file(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        plant.sites[3].mute = {Train}
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        await plant.until(job_id, lambda detail: detail.awaited == ("site-3",))
        await plant.until_acknowledged()

        def forget_deadline(transaction: Transaction) -> None:
            entries = transaction.list_round_entries(job_id, 1)
            assert read_journal(entries).training_deadline_s == 1800.0
            transaction.drop_round_entries(job_id)
            older = [replace(each, word="") if each.kind is EntryKind.OPENED else each for each in entries]
            transaction.add_round_entries(job_id, 1, older)

        await plant.store.transact("forget", forget_deadline)
        began = plant.clock.now()
        await plant.restart_daemon()
        detail = await plant.conductor.job_detail(job_id)
        assert (detail.awaited, detail.rounds[0].deadline_at) == (("site-3",), began + 1800)
