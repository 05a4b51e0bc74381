"""Jobs that get no better: when they end, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plant import Plant, job_toml

from coordinator.jobs.jobfile import JobFile, read_job_file
from coordinator.rounds.plateau import find_plateau
from coordinator.rounds.results import Evaluation
from coordinator.store.records import RoundRecord
from ravan.ids import JobId
from ravan.manifest.phases import JobState, RoundOutcome, RoundPhase


def job(measure: str = "accuracy", **settings: Any) -> JobFile:
    lines = {key: f"{key} = {value}" for key, value in settings.items()}
    text = job_toml(rounds=50, settings={**lines, "measure": f'measure = "{measure}"'})
    return read_job_file(text, source="job.toml")


def history(*figures: float | RoundOutcome | None) -> list[RoundRecord]:
    """Committed rounds with these figures, or rounds that ended otherwise."""
    return [
        RoundRecord(
            job_id=JobId("job"),
            number=number,
            phase=RoundPhase.ENDED,
            outcome=figure if isinstance(figure, RoundOutcome) else RoundOutcome.COMMITTED,
            started_at=0.0,
            accuracy=None if isinstance(figure, RoundOutcome) else figure,
            loss=None if isinstance(figure, RoundOutcome) else figure,
        )
        for number, figure in enumerate(figures, start=1)
    ]


def test_without_patience_a_job_runs_all_its_rounds() -> None:
    assert find_plateau(job(), history(*[0.5] * 40), 0.5) == ""


def test_a_job_ends_after_so_many_rounds_without_a_better_version() -> None:
    patient = job(patience=3)
    assert find_plateau(patient, history(0.5, 0.6, 0.6, 0.55), 0.1) == ""
    assert find_plateau(patient, history(0.5, 0.6, 0.6, 0.55, 0.59), 0.1) == (
        "Ended early: 3 rounds in a row brought no better accuracy."
        " The best version is that of round 2, accuracy 60.0%: `export orders --round 2`."
    )
    assert find_plateau(patient, history(0.5, 0.6, 0.6, 0.55, 0.61), 0.1) == ""


def test_less_loss_is_better() -> None:
    patient = job("loss", patience=2)
    assert find_plateau(patient, history(0.9, 0.8, 0.7), 1.0) == ""
    assert "that of round 1, loss 0.9000" in find_plateau(patient, history(0.9, 1.1, 0.95), 1.0)


def test_small_steps_add_up_to_an_improvement() -> None:
    patient = job(patience=3, minimum_improvement=0.02)
    # 0.82 - 0.8 is a little less than 0.02 in binary.
    assert find_plateau(patient, history(0.8, 0.81, 0.82, 0.83, 0.84), 0.1) == ""
    ended = find_plateau(patient, history(0.8, 0.805, 0.81, 0.815), 0.1)
    assert "no better accuracy by 2 points or more" in ended
    assert ended.endswith("that of round 4, accuracy 81.5%: `export orders --round 4`.")


def test_a_refused_version_is_no_better_one_and_a_round_without_a_version_says_nothing() -> None:
    patient = job(patience=2)
    few = RoundOutcome.TOO_FEW_SITES
    assert find_plateau(patient, history(0.5, few, few, few, 0.5), 0.1) == ""
    assert find_plateau(patient, history(0.5, few, RoundOutcome.REFUSED, few, RoundOutcome.REFUSED), 0.1)


def test_the_minimum_is_run_in_any_case() -> None:
    patient = job(patience=1, minimum_rounds=3)
    assert find_plateau(patient, history(0.5, 0.4), 0.1) == ""
    assert find_plateau(patient, history(0.5, 0.4, 0.45), 0.1)


def test_training_that_makes_nothing_better_says_so() -> None:
    ended = find_plateau(job(patience=2), history(0.2, 0.1), 0.3)
    assert ended.endswith("The best version is the one before the first round, accuracy 30.0%.")
    assert "that of round 1, loss 0.2000" in find_plateau(job("loss", patience=1), history(0.2, 0.3), None)


@given(st.lists(st.integers(0, 20), max_size=30), st.integers(1, 6), st.integers(0, 5))
def test_it_ends_when_the_last_record_lies_patience_rounds_back(
    right: Sequence[int], patience: int, least: int
) -> None:
    rounds = history(*(count / 20 for count in right))
    ended = find_plateau(job(patience=patience, minimum_improvement=least / 20), rounds, 0.0)
    # In whole examples: where the bar was raised for the last time.
    bar, last = 0, 0
    for number, count in enumerate(right, start=1):
        if count > bar and count >= bar + least:
            bar, last = count, number
    assert bool(ended) == (len(right) > 0 and len(right) - last >= patience)


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_job_on_a_plateau_is_completed_and_says_which_version_is_best(tmp_path: Path, restarts: bool) -> None:
    async with Plant(tmp_path) as plant:
        figures = [0.1, 0.5, 0.7, 0.6, 0.7]
        plant.workbench.figures = {i: Evaluation(accuracy=a, loss=1.0) for i, a in enumerate(figures)}
        if restarts:
            plant.workbench.stalls_in = "combine"
        await plant.connect_all()
        job_id = await plant.submit(rounds=9, settings={"patience": "patience = 2"})
        if restarts:
            await plant.workbench.stalled.wait()
            plant.workbench.stalls_in = ""
            await plant.restart_daemon()
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED)
        assert len(detail.rounds) == 4
        assert detail.record.message == (
            "Ended early: 2 rounds in a row brought no better accuracy. The best version is that of round 2,"
            " accuracy 70.0%: `export orders --round 2`."
        )
