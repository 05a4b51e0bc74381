"""Jobs from submission to end: over the real database, with real secure aggregation and manual time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from plant import EVALUATION, FULL_RAM, HEADS, MATRICES, SCORES, Plant, digest_of, job_toml
from rich.console import Console

from coordinator.api.views import job_view
from coordinator.cli.tables import render_job
from coordinator.leases.lease import ROUNDS, Lead, Lease
from coordinator.rounds.replies import JobDetail
from ravan.errors import ErrorReason, IdentityError, ModelError, ProtocolError, StateError
from ravan.ids import JobId, SiteId
from ravan.manifest.instructions import (
    ConfirmSurvivors,
    ExchangeShares,
    JobEnded,
    MaskAndUpload,
    Prepare,
    Reveal,
    RoundResult,
    Train,
)
from ravan.manifest.phases import DropReason, JobState, RoundOutcome, RoundPhase
from ravan.manifest.profile import JobProfile
from ravan.secagg.messages import SealedShares

NOBODY = Lead(lease=None, now=0.0)


def ended(detail: JobDetail) -> bool:
    return detail.record.state in {JobState.COMPLETED, JobState.STOPPED, JobState.FAILED}


async def test_a_job_runs_all_its_rounds(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        await plant.connect_all()
        job_id = await plant.submit(rounds=2)
        detail = await plant.until(job_id, ended)
        assert detail.record.state is JobState.COMPLETED
        assert [record.outcome for record in detail.rounds] == [RoundOutcome.COMMITTED] * 2
        assert detail.record.state_digest == digest_of("version 2")
        assert plant.workbench.based_on == [digest_of("version 0"), digest_of("version 1")]
        assert detail.record.accuracy_before == pytest.approx(0.1)
        assert detail.record.accuracy == pytest.approx(0.3)
        names = tuple(site.name for site in plant.sites)
        for number, record in enumerate(detail.rounds, start=1):
            assert record.selected == record.completed == names
            assert record.phase is RoundPhase.ENDED
            assert record.state_digest == digest_of(f"version {number}")
            assert record.sums_digest == digest_of(f"sums {number}")
            assert set(record.phase_seconds) == set(RoundPhase) - {RoundPhase.ENDED}
            assert set(record.cohorts.values()) == {4}
            assert len(record.cohorts) == MATRICES * HEADS
            assert record.withheld == ()
            assert record.training_loss == pytest.approx(0.5)
            assert record.clip_rate == pytest.approx(0.25)
            for site in record.sites:
                assert (site.heads, site.ram_limit_bytes) == (MATRICES * HEADS, FULL_RAM)
                assert (site.peak_rss_bytes, site.extra_peak_bytes, site.step_cpu_s) == (111, 22, 0.5)
                assert site.upload_bytes > 0


async def test_the_sum_is_the_sum_of_the_sites_own_numbers(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        await plant.until(job_id, ended)
        (total,) = plant.workbench.totals
        # Member i sends i + 1 in every coordinate: 1 + 2 + 3 + 4.
        assert {int(value) for summed in total.blocks.values() for value in summed.total} == {10}


async def test_clips_widen_where_sites_clipped(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        await plant.connect_all()
        job_id = await plant.submit(rounds=2)
        detail = await plant.until(job_id, ended)
        first, second = (set(record.clips.values()) for record in detail.rounds)
        assert first == {8.0}
        # One of four sites clipped every block, which is more than a tenth.
        assert second == {12.0}


async def test_sites_are_told_the_end_once_and_old_instructions_are_gone(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        await plant.connect_all()
        job_id = await plant.submit(rounds=2)
        await plant.until(job_id, ended)
        for site in plant.sites:
            told = [numbered.instruction for numbered in await plant.instructions(site.name)]
            assert [type(each) for each in told] == [RoundResult, JobEnded]
            version = digest_of("version 2")
            assert told[1] == JobEnded(job_id=job_id, state=JobState.COMPLETED, state_digest=version, round_number=2)
        assert ("job ended", "orders") in plant.metrics.said


async def test_a_job_that_ends_before_its_first_version_names_none(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        await plant.connect_all()
        job_id = await plant.submit(rounds=2)
        await plant.conductor.stop_job(job_id)
        ends = [each.instruction for each in await plant.instructions(plant.sites[0].name)]
        assert ends[-1] == JobEnded(job_id=job_id, state=JobState.STOPPED)


async def test_metrics_follow_the_round(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        detail = await plant.until(job_id, ended)
        said = plant.metrics.said
        phases = [entry[1] for entry in said if entry[0] == "phase ended"]
        assert phases == [phase for phase in RoundPhase if phase is not RoundPhase.ENDED]
        assert [entry for entry in said if entry[0] == "round ended"] == [("round ended", RoundOutcome.COMMITTED)]
        assert plant.metrics.taking_part == [(len(detail.rounds[0].selected), len(detail.rounds[0].completed))]
        assert plant.metrics.taking_part == [(4, 4)]
        assert said.count(("cohort", 4)) == MATRICES * HEADS
        masked = [entry[1] for entry in said if entry[0] == "masked"]
        assert masked == [site.upload_bytes for site in sorted(detail.rounds[0].sites, key=lambda _: 0)]
        assert ("unmasked", 0.25) in said
        assert said.count(("evaluated", "orders")) == 2
        assert [entry[1] for entry in said if entry[0] == "phase"][-1] is None


async def test_staged_uploads_go_with_their_round_and_their_folder_with_the_job(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        await plant.connect_all()
        job_id = await plant.submit(rounds=2)
        await plant.until(job_id, ended)
        run_id = plant.sites[0].assignment.run_id
        # the folder goes in a thread, after the job's end is on record
        async with asyncio.timeout(30):
            while len(plant.shelf.discarded) < 3:  # noqa: ASYNC110 - a thread tells nobody
                await asyncio.sleep(0.01)
        assert plant.shelf.discarded == [(run_id, 2), (run_id, 3), (run_id, None)]


async def test_the_same_request_gets_the_same_job(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        first, second = await asyncio.gather(
            *(plant.conductor.submit_job(job_toml(), EVALUATION, "the request") for _ in range(2))
        )
        assert first.job_id == second.job_id
        assert first.notes == ("4 sites on minilm",)
        assert len(await plant.conductor.jobs()) == 1


async def test_an_unknown_model_is_refused_before_anything_runs(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        text = job_toml().replace('name = "minilm"', 'name = "bert"')
        with pytest.raises(ModelError, match="bert") as caught:
            await plant.conductor.submit_job(text, EVALUATION, "request")
        assert caught.value.reason is ErrorReason.MODEL_MISSING
        assert "minilm" in caught.value.next_step
        assert await plant.conductor.jobs() == []


async def test_a_job_says_what_it_waits_for(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        plant.sites[1].cannot_prepare = DropReason.DATA
        plant.sites[2].mute = {Prepare}
        for site in plant.sites[:3]:
            await site.connect()
        job_id = await plant.submit()
        detail = await plant.until(job_id, lambda detail: "data" in detail.record.message and bool(detail.ready_sites))
        assert detail.record.message == (
            "Waits for sites: 1 ready, 3 needed; site-2 preparing; site-1 cannot take part (data)."
        )
        assert detail.ready_sites == (SiteId("site-0"),)
        assert detail.record.state is JobState.PREPARING
        assert detail.rounds == ()


async def test_a_site_that_could_not_prepare_may_try_again_after_reconnecting(tmp_path: Path) -> None:
    async with Plant(tmp_path, sites=3) as plant:
        plant.sites[1].cannot_prepare = DropReason.DATA
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        await plant.until(job_id, lambda detail: "data" in detail.record.message)
        plant.sites[1].cannot_prepare = None
        await plant.sites[1].disconnect()
        await plant.sites[1].connect()
        detail = await plant.until(job_id, ended)
        assert detail.rounds[0].completed == tuple(site.name for site in plant.sites)


async def test_a_round_waits_a_little_for_sites_that_still_prepare(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        plant.sites[3].mute = {Prepare}
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        detail = await plant.until(job_id, lambda detail: "waits a little" in detail.record.message)
        assert "site-3" in detail.record.message
        assert detail.rounds == ()
        plant.timers.advance(plant.settle_s)
        detail = await plant.until(job_id, ended)
        assert detail.rounds[0].selected == tuple(site.name for site in plant.sites[:3])


@pytest.mark.parametrize(
    ("deaf_to", "phase"),
    [
        (Train, RoundPhase.TRAINING),
        (ExchangeShares, RoundPhase.SHARING),
        (MaskAndUpload, RoundPhase.UPLOADING),
        (ConfirmSurvivors, RoundPhase.CONFIRMING),
        (Reveal, RoundPhase.REVEALING),
    ],
)
async def test_a_lost_site_is_recorded_and_the_round_commits(
    tmp_path: Path,
    deaf_to: type[Train | ExchangeShares | MaskAndUpload | ConfirmSurvivors | Reveal],
    phase: RoundPhase,
) -> None:
    async with Plant(tmp_path) as plant:
        plant.sites[2].mute = {deaf_to}
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        await plant.until(job_id, lambda _: _awaits_only(plant, job_id, "site-2"))
        await plant.conductor.site_lost(SiteId("site-2"))
        detail = await plant.until(job_id, ended)
        (record,) = detail.rounds
        assert record.outcome is RoundOutcome.COMMITTED
        assert [(drop.site, drop.phase, drop.reason) for drop in record.dropped] == [
            ("site-2", phase, DropReason.DISCONNECTED)
        ]
        assert ("site-2" in record.completed) == (phase in {RoundPhase.CONFIRMING, RoundPhase.REVEALING})


def _awaits_only(plant: Plant, job_id: JobId, name: str) -> bool:
    active = plant.conductor._runners[job_id].round
    return active is not None and active.machine.awaited == (name,)


async def test_operators_see_whose_answer_the_running_round_waits_for_and_no_more_after_it(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        plant.sites[3].mute = {MaskAndUpload}
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        await plant.until(job_id, lambda _: _awaits_only(plant, job_id, "site-3"))
        detail = await plant.conductor.job_detail(job_id)
        lease = Lease(name=ROUNDS, holder="hq-1", address="hq:8443", fence=1, taken_at=1.0, until=9.0)
        lead = Lead(lease=lease, now=2.0)
        view = job_view(detail.record, detail.rounds, lead, ready_sites=detail.ready_sites, awaited=detail.awaited)
        assert list(view.rounds[-1].awaited) == ["site-3"]
        screen = Console(width=120)
        with screen.capture() as shown:
            screen.print(render_job(view))
        assert "site-3" in next(line for line in shown.get().splitlines() if "uploading" in line)
        plant.sites[3].mute = set()
        await plant.sites[3].answer(next(i for i in plant.sites[3].heard if isinstance(i, MaskAndUpload)))
        detail = await plant.until(job_id, ended)
        assert detail.awaited == ()
        # Should a question come between the round and its record, nobody is shown beside a round that is over.
        view = job_view(
            detail.record, detail.rounds, NOBODY, ready_sites=detail.ready_sites, awaited=(SiteId("site-3"),)
        )
        assert list(view.rounds[-1].awaited) == []


async def test_a_silent_site_is_dropped_at_the_deadline(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        plant.sites[3].mute = {MaskAndUpload}
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        record = await plant.until_phase(job_id, RoundPhase.UPLOADING)
        await plant.until(job_id, lambda _: _awaits_only(plant, job_id, "site-3"))
        assert record.deadline_at == plant.clock.now() + 60
        plant.timers.advance(60)
        detail = await plant.until(job_id, ended)
        assert [(d.site, d.phase, d.reason) for d in detail.rounds[0].dropped] == [
            ("site-3", RoundPhase.UPLOADING, DropReason.DEADLINE)
        ]
        assert detail.rounds[0].phase_seconds[RoundPhase.UPLOADING] == 60


async def test_a_restarted_site_is_dropped_and_completes_the_next_round(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        plant.sites[0].mute = {Train}
        await plant.connect_all()
        job_id = await plant.submit(rounds=2)
        await plant.until(job_id, lambda _: _awaits_only(plant, job_id, "site-0"))
        plant.sites[0].mute = set()
        await plant.sites[0].restart()
        detail = await plant.until(job_id, ended)
        first, second = detail.rounds
        assert [(d.site, d.phase, d.reason) for d in first.dropped] == [
            ("site-0", RoundPhase.TRAINING, DropReason.RESTARTED)
        ]
        assert SiteId("site-0") not in first.completed
        assert SiteId("site-0") in second.completed
        # The new process was never asked to train in the round that its predecessor was in.
        assert plant.sites[0].assignment.round_number == 2


async def test_a_site_that_was_cut_off_learns_so_before_it_prepares_again(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        site = plant.sites[0]
        site.mute = {ExchangeShares}
        await plant.connect_all()
        job_id = await plant.submit(rounds=2)
        await plant.until(job_id, lambda _: _awaits_only(plant, job_id, "site-0"))
        await site.disconnect()
        for other in plant.sites[1:]:
            other.mute = {MaskAndUpload}
        await plant.conductor.site_lost(site.name)
        for _ in range(2):
            await plant.conductor.site_lost(site.name)
            await plant.conductor.site_attached(site.name, site.process)
        told = [numbered.instruction for numbered in await plant.instructions(site.name)]
        assert [type(instruction) for instruction in told] == [RoundResult, Prepare]
        assert isinstance(told[0], RoundResult)
        assert told[0].dropped


async def test_a_site_that_leaves_is_recorded_with_its_reason(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        plant.sites[1].mute = {Train}
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        await plant.until(job_id, lambda _: _awaits_only(plant, job_id, "site-1"))
        await plant.conductor.left(SiteId("site-1"), job_id, 7, DropReason.LEFT)
        await plant.conductor.left(SiteId("site-1"), job_id, 1, DropReason.MEMORY)
        detail = await plant.until(job_id, ended)
        assert [(d.site, d.reason) for d in detail.rounds[0].dropped] == [("site-1", DropReason.MEMORY)]


async def test_too_few_sites_reveal_nothing_and_the_job_tries_again_later(tmp_path: Path) -> None:
    async with Plant(tmp_path, sites=3) as plant:
        plant.sites[0].mute = {Train}
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        await plant.until(job_id, lambda _: _awaits_only(plant, job_id, "site-0"))
        plant.sites[0].mute = set()
        await plant.sites[0].restart()
        record = await plant.until_ended(job_id, 1)
        assert record.outcome is RoundOutcome.TOO_FEW_SITES
        assert plant.workbench.totals == []
        await plant.until(job_id, lambda detail: "no new version" in detail.record.message)
        await plant.until(job_id, lambda _: bool([t for t in plant.timers.due if not t.cancelled]))
        plant.timers.advance(2)
        detail = await plant.until(job_id, ended)
        assert [r.outcome for r in detail.rounds] == [RoundOutcome.TOO_FEW_SITES, RoundOutcome.COMMITTED]


async def test_halving_a_site_s_memory_changes_its_next_allocation(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        plant.sites[0].mute = {Reveal}
        await plant.connect_all()
        job_id = await plant.submit(rounds=2)
        await plant.until(job_id, lambda _: _awaits_only(plant, job_id, "site-0"))
        # 600 bytes hold the model (400), one matrix (150) and the margin.
        plant.sites[0].ram = 600
        await plant.sites[0].report_hardware()
        await plant.conductor.left(SiteId("site-0"), job_id, 1, DropReason.INTERNAL)
        plant.sites[0].mute = set()
        detail = await plant.until(job_id, ended)
        assert [record.sites[0].heads for record in detail.rounds] == [MATRICES * HEADS, HEADS]
        assert [record.sites[1].heads for record in detail.rounds] == [MATRICES * HEADS] * 2
        assert plant.sites[0].trained == [MATRICES, 1]
        # The three others still carry the lower tiles.
        assert sorted(detail.rounds[1].cohorts.values()) == [3] * (2 * HEADS) + [4] * HEADS


async def test_a_site_that_outgrew_its_limit_is_asked_for_less_in_the_next_round(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        plant.sites[0].mute = {Train}
        await plant.connect_all()
        job_id = await plant.submit(rounds=2)
        await plant.until(job_id, lambda _: _awaits_only(plant, job_id, "site-0"))
        # As an agent does, in this order: what holds now, then that it leaves.
        digest = plant.sites[1].assignment.plan_digest
        limit = plant.sites[0].ram
        corrected = JobProfile(
            plan_digest=digest,
            ram_loaded_bytes=350,
            ram_floor_bytes=50,
            ram_per_matrix_bytes=limit,
            step_floor_s=0.1,
            step_per_matrix_s=0.1,
            ram_reached_bytes=(200, limit, 2 * limit),
        )
        await plant.conductor.job_profiled(SiteId("site-0"), job_id, corrected)
        await plant.conductor.left(SiteId("site-0"), job_id, 1, DropReason.MEMORY)
        plant.sites[0].mute = set()
        detail = await plant.until(job_id, ended)
        assert [(d.site, d.reason) for d in detail.rounds[0].dropped] == [("site-0", DropReason.MEMORY)]
        assert [record.sites[0].heads for record in detail.rounds] == [MATRICES * HEADS, HEADS]
        assert plant.sites[0].trained == [1]


async def test_heads_that_too_few_sites_can_hold_are_trained_by_nobody_and_the_job_says_so(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        for site in plant.sites[:2]:
            site.ram = 600
        plant.sites[0].mute = {Reveal}
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        await plant.until(job_id, lambda _: _awaits_only(plant, job_id, "site-0"))
        assert (await plant.conductor.job_detail(job_id)).record.message == (
            "Nobody trains 4 of 6 heads, those of layer.0.query to layer.1.query: 2 of 4 sites can hold all heads, and"
            " 3 are needed. To have all trained: raise the memory limit of site-0 to 1 MiB."
        )
        await plant.conductor.left(SiteId("site-0"), job_id, 1, DropReason.INTERNAL)
        detail = await plant.until(job_id, ended)
        assert [site.heads for site in detail.rounds[0].sites] == [HEADS] * 4
        assert sorted(detail.rounds[0].cohorts.values()) == [0] * (2 * HEADS) + [4] * HEADS
        assert detail.record.message == ""


async def test_heads_are_weighed_anew_for_every_version(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        await plant.connect_all()
        job_id = await plant.submit(rounds=3, policy="weight")
        detail = await plant.until(job_id, ended)
        assert plant.workbench.weighed == [digest_of(f"version {number}") for number in range(4)]
        # Two of three tiles, and the uppermost has moved least.
        trained = {head.matrix for head, count in detail.rounds[0].cohorts.items() if count}
        assert trained == {0, 1}
        assert detail.record.message == ""


async def test_heads_are_ranked_by_the_scores_of_the_round_before_also_after_a_restart(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        plant.sites[0].mute = {Reveal}
        await plant.connect_all()
        job_id = await plant.submit(rounds=3, policy="gradient")
        await plant.until(job_id, lambda _: _awaits_only(plant, job_id, "site-0"))
        await plant.conductor.pause_job("orders")
        plant.sites[0].mute = set()
        await plant.conductor.left(SiteId("site-0"), job_id, 1, DropReason.INTERNAL)
        await plant.until_ended(job_id, 1)
        await plant.restart_daemon()
        await plant.conductor.resume_job("orders")
        detail = await plant.until(job_id, ended)
        trained = [{head.matrix for head, count in record.cohorts.items() if count} for record in detail.rounds]
        # Two of three tiles: from the top, then by score. After the last round there is none to rank.
        assert trained == [{1, 2}, {0, 2}, {0, 2}]
        scores = {head: SCORES[head.matrix] for head in detail.rounds[0].cohorts}
        assert [record.scores for record in detail.rounds] == [scores, scores, {}]
        assert plant.workbench.weighed == []


async def test_another_site_s_index_is_refused_and_drops_nobody(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        plant.sites[0].mute = {ExchangeShares}
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        await plant.until(job_id, lambda _: _awaits_only(plant, job_id, "site-0"))
        with pytest.raises(IdentityError) as caught:
            await plant.sites[1].say(SealedShares(ciphertexts={}), index=0)
        assert caught.value.reason is ErrorReason.PERMISSION_DENIED
        assert (await plant.conductor.job_detail(job_id)).rounds[0].dropped == ()


async def test_a_site_that_breaks_the_protocol_is_dropped(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        plant.sites[0].mute = {ExchangeShares}
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        await plant.until(job_id, lambda _: _awaits_only(plant, job_id, "site-0"))
        plant.sites[0]._reference = plant.sites[1]._reference
        with pytest.raises(ProtocolError):
            await plant.sites[0].say(SealedShares(ciphertexts={}))
        detail = await plant.until(job_id, ended)
        assert [(d.site, d.phase, d.reason) for d in detail.rounds[0].dropped] == [
            ("site-0", RoundPhase.SHARING, DropReason.PROTOCOL)
        ]
        assert detail.rounds[0].outcome is RoundOutcome.COMMITTED


async def test_a_message_of_no_running_round_is_refused(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        await plant.until(job_id, ended)
        with pytest.raises(StateError) as caught:
            await plant.sites[1].say(SealedShares(ciphertexts={}))
        assert caught.value.reason is ErrorReason.WRONG_STATE


async def test_a_paused_job_finishes_its_round_and_starts_no_other(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        plant.sites[0].mute = {Reveal}
        await plant.connect_all()
        job_id = await plant.submit(rounds=2)
        await plant.until(job_id, lambda _: _awaits_only(plant, job_id, "site-0"))
        await plant.conductor.pause_job("orders")
        plant.sites[0].mute = set()
        await plant.conductor.left(SiteId("site-0"), job_id, 1, DropReason.INTERNAL)
        record = await plant.until_ended(job_id, 1)
        assert record.outcome is RoundOutcome.COMMITTED
        detail = await plant.conductor.job_detail(job_id)
        assert (detail.record.state, len(detail.rounds)) == (JobState.PAUSED, 1)
        await plant.conductor.resume_job(job_id)
        detail = await plant.until(job_id, ended)
        assert [r.outcome for r in detail.rounds] == [RoundOutcome.COMMITTED] * 2


async def test_a_stopped_job_ends_its_round_and_stays_stopped(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        plant.sites[0].mute = {Train}
        await plant.connect_all()
        job_id = await plant.submit(rounds=2)
        await plant.until(job_id, lambda _: _awaits_only(plant, job_id, "site-0"))
        await plant.conductor.stop_job("orders")
        detail = await plant.conductor.job_detail(job_id)
        assert detail.record.state is JobState.STOPPED
        assert [record.outcome for record in detail.rounds] == [RoundOutcome.STOPPED]
        await plant.conductor.stop_job("orders")
        with pytest.raises(StateError, match="has ended"):
            await plant.conductor.resume_job(job_id)


async def test_a_job_that_is_paused_while_it_looks_for_sites_starts_no_round(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        await plant.connect_all()
        plant.store.holds = "read_fleet"
        job_id = await plant.submit(rounds=1)
        await plant.store.held.wait()
        await plant.conductor.pause_job(job_id)
        plant.store.holds = ""
        plant.store.released.set()
        # Whatever the job did at once is stored before what is read after it.
        for _ in range(5):
            detail = await plant.conductor.job_detail(job_id)
        assert (detail.record.state, detail.rounds) == (JobState.PAUSED, ())
        assert detail.record.message.startswith("Paused by an operator")
        await plant.conductor.resume_job(job_id)
        await plant.until(job_id, ended)


async def test_an_unknown_job_is_named(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        with pytest.raises(StateError, match="'nothing'") as caught:
            await plant.conductor.job_detail("nothing")
        assert caught.value.reason is ErrorReason.NOT_FOUND


async def test_masks_that_do_not_cancel_end_the_round_and_five_in_a_row_pause_the_job(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        plant.workbench.unmask_error = ProtocolError("Masks did not cancel.", reason=ErrorReason.CANARY_MISMATCH)
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        for number in range(1, 6):
            record = await plant.until_ended(job_id, number)
            assert record.outcome is RoundOutcome.CANARY_MISMATCH
            assert record.state_digest == b""
            if number < 5:
                await plant.until(job_id, lambda _: bool([t for t in plant.timers.due if not t.cancelled]))
                plant.timers.advance(2.0**number)
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.PAUSED)
        assert "Masks did not cancel." in detail.record.message
        plant.workbench.unmask_error = None
        await plant.conductor.resume_job(job_id)
        detail = await plant.until(job_id, ended)
        assert detail.record.state is JobState.COMPLETED
        assert detail.record.state_digest == digest_of("version 1")


async def test_two_jobs_share_the_sites_one_round_at_a_time(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        plant.sites[0].mute = {Train}
        await plant.connect_all()
        first = await plant.submit(rounds=1, name="first")
        await plant.until(first, lambda _: _awaits_only(plant, first, "site-0"))
        second = await plant.submit(rounds=1, name="second")
        detail = await plant.until(second, lambda detail: "in a round of" in detail.record.message)
        assert detail.record.message == (
            "Waits for sites: 0 ready, 3 needed; site-0, site-1, site-2 and 1 more in a round of job-first."
        )
        assert detail.rounds == ()
        assert len(detail.ready_sites) == 4
        plant.sites[0].mute = set()
        await plant.conductor.left(SiteId("site-0"), first, 1, DropReason.INTERNAL)
        assert (await plant.until(first, ended)).record.state is JobState.COMPLETED
        assert (await plant.until_phase(second, RoundPhase.ENDED)).selected == tuple(s.name for s in plant.sites)


async def test_only_blobs_of_running_jobs_and_newest_versions_are_served(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        job_id = await plant.submit()
        for served in ("config", "b0", "version 0"):
            assert await plant.conductor.may_download(digest_of(served))
        assert not await plant.conductor.may_download(EVALUATION)
        assert [plan.job_id for plan in plant.conductor.plans()] == [job_id]
        await plant.conductor.stop_job(job_id)
        assert not await plant.conductor.may_download(digest_of("config"))
        assert not await plant.conductor.may_download(digest_of("b0"))
        # Sites that were away fetch what was learnt, however late they hear of it.
        assert await plant.conductor.may_download(digest_of("version 0"))
        assert plant.conductor.plans() == ()
