"""Versions that are refused: what the gate says, and what becomes of the round and its job."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plant import Plant, digest_of

from coordinator.jobs.jobfile import EvaluationTable
from coordinator.jobs.measure import Gate, Measure
from coordinator.rounds.gate import find_refusal
from coordinator.rounds.replies import JobDetail
from coordinator.rounds.results import Evaluation
from ravan.errors import ErrorReason, ModelError
from ravan.manifest.instructions import RoundResult
from ravan.manifest.phases import JobState, RoundOutcome

SHARES = st.integers(0, 400).map(lambda right: right / 400)


def found(accuracy: float = 0.5, loss: float = 1.0) -> Evaluation:
    return Evaluation(accuracy=accuracy, loss=loss)


def table(gate: Gate, *, measure: Measure = Measure.ACCURACY, tolerance: float = 0.0) -> EvaluationTable:
    return EvaluationTable(data="held-out.csv", gate=gate, measure=measure, gate_tolerance=tolerance)


def ended(detail: JobDetail) -> bool:
    return detail.record.state in {JobState.COMPLETED, JobState.FAILED}


@pytest.mark.parametrize("gate", Gate)
@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_no_gate_lets_a_version_through_that_is_not_finite(gate: Gate, loss: float) -> None:
    assert "not finite" in find_refusal(table(gate), 0.0, found(accuracy=1.0, loss=loss))


def test_a_worse_version_is_refused_where_the_job_says_so() -> None:
    assert find_refusal(table(Gate.FINITE), 0.9, found(accuracy=0.1)) == ""
    assert find_refusal(table(Gate.NOT_WORSE), 0.52, found(accuracy=0.41)) == (
        "It is worse on the held-out data (accuracy 41.0% after accuracy 52.0%); the version before stays."
    )
    losses = table(Gate.NOT_WORSE, measure=Measure.LOSS, tolerance=0.05)
    assert find_refusal(losses, 1.0, found(accuracy=0.0, loss=1.05)) == ""
    assert find_refusal(losses, 1.0, found(accuracy=1.0, loss=1.06)) == (
        "It is worse by more than 0.05 on the held-out data (loss 1.0600 after loss 1.0000); the version before stays."
    )


def test_without_a_figure_of_the_version_before_nothing_is_worse() -> None:
    assert find_refusal(table(Gate.NOT_WORSE), None, found(accuracy=0.0)) == ""


@given(SHARES, SHARES, SHARES)
def test_the_tolerance_is_what_a_version_may_lose(before: float, after: float, tolerance: float) -> None:
    refused = bool(find_refusal(table(Gate.NOT_WORSE, tolerance=tolerance), before, found(accuracy=after)))
    # In whole examples out of 400, so that no rounding blurs the border.
    assert refused == (round(400 * before) - round(400 * after) > round(400 * tolerance))


async def test_a_refused_version_leaves_the_one_before_and_the_round_s_figures_on_record(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        plant.workbench.figures = {1: found(0.6, 0.8), 2: found(0.4, 0.9), 3: found(0.7, 0.7)}
        await plant.connect_all()
        job_id = await plant.submit(rounds=2, settings={"gate": 'gate = "not_worse"'})
        detail = await plant.until(job_id, lambda detail: "made no new version" in detail.record.message)
        assert detail.record.message == (
            "Round 2 made no new version. It is worse on the held-out data (accuracy 40.0% after accuracy 60.0%);"
            " the version before stays."
        )
        assert (detail.record.state_digest, detail.record.accuracy) == (digest_of("version 1"), 0.6)
        refused = detail.rounds[1]
        assert (refused.outcome, refused.accuracy, refused.loss) == (RoundOutcome.REFUSED, 0.4, 0.9)
        assert (refused.state_digest, len(refused.completed)) == (b"", 4)
        for site in plant.sites:
            told = [each for each in site.heard if isinstance(each, RoundResult)]
            assert [each.outcome for each in told] == [RoundOutcome.COMMITTED, RoundOutcome.REFUSED]
            assert told[-1].state_digest == b""
        await plant.until(job_id, lambda _: bool([t for t in plant.timers.due if not t.cancelled]))
        plant.timers.advance(2)
        detail = await plant.until(job_id, ended)
        assert [each.outcome for each in detail.rounds] == [
            RoundOutcome.COMMITTED,
            RoundOutcome.REFUSED,
            RoundOutcome.COMMITTED,
        ]
        # The third round went on from what the second one had left.
        assert plant.workbench.based_on == [digest_of("version 0"), digest_of("version 1"), digest_of("version 1")]
        assert plant.metrics.said.count(("round ended", RoundOutcome.REFUSED)) == 1
        # The sites of a refused round came through all the same.
        assert plant.metrics.taking_part == [(4, 4)] * 3
        # Clips widen after a round that committed, and not after one that was refused.
        assert [set(each.clips.values()) for each in detail.rounds] == [{8.0}, {12.0}, {12.0}]


async def test_the_version_before_the_first_round_counts_and_survives_a_restart(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        plant.workbench.figures = {0: found(0.1, 0.5), 1: found(0.2, 0.6)}
        plant.workbench.stalls_in = "unmask"
        settings = {"gate": 'gate = "not_worse"', "measure": 'measure = "loss"'}
        await plant.connect_all()
        job_id = await plant.submit(rounds=1, settings=settings)
        await plant.workbench.stalled.wait()
        plant.workbench.stalls_in = ""
        await plant.restart_daemon()
        record = await plant.until_ended(job_id, 1)
        assert (record.outcome, record.loss) == (RoundOutcome.REFUSED, 0.6)


async def test_five_refused_versions_in_a_row_pause_the_job(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        plant.workbench.figures = {count: found(loss=math.nan) for count in range(1, 6)}
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        for number in range(1, 5):
            await plant.until(job_id, lambda detail, n=number: f"Round {n} made no" in detail.record.message)  # type: ignore[misc]
            await plant.until(job_id, lambda _: bool([t for t in plant.timers.due if not t.cancelled]))
            plant.timers.advance(2**number)
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.PAUSED)
        assert [each.outcome for each in detail.rounds] == [RoundOutcome.REFUSED] * 5
        assert [each.loss for each in detail.rounds] == [None] * 5
        assert "5 rounds in a row were refused" in detail.record.message
        assert "lower learning rates" in detail.record.message
        assert detail.record.state_digest == digest_of("version 0")


async def test_numbers_that_are_not_finite_are_refused_before_they_are_measured(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        plant.workbench.unmask_error = ModelError(
            "2 blocks are not finite.", reason=ErrorReason.MODEL_INVALID, next_step="Lower the learning rates."
        )
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        record = await plant.until_ended(job_id, 1)
        assert (record.outcome, record.accuracy) == (RoundOutcome.REFUSED, None)
        await plant.until(job_id, lambda detail: "Lower the learning rates." in detail.record.message)
