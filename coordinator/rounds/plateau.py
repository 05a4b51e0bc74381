"""Whether a job has stopped getting better, and which of its versions is the best. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.jobs.jobfile import JobFile
from coordinator.jobs.measure import Measure
from coordinator.rounds.history import count_committed
from coordinator.store.records import RoundRecord
from ravan.manifest.phases import RoundOutcome

MEASURED = frozenset({RoundOutcome.COMMITTED, RoundOutcome.REFUSED})
"""Rounds that came to a version that was measured. Others say nothing of whether the model still gets better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    """A version and its figure."""

    round_number: int
    """0: before the first round."""
    figure: float


def find_plateau(job: JobFile, rounds: Sequence[RoundRecord], start: float | None) -> str:
    """Return why the job ends before all its rounds are run; empty while it goes on.

    `start` is the figure of the version before the first round, None where it is not known. A round counts as an
    improvement when its figure is better by at least `minimum_improvement` than that of the last one that was.
    """
    patience = job.job.patience
    if patience is None or count_committed(rounds) < job.job.minimum_rounds:
        return ""
    measure, since = job.evaluation.measure, 0
    mark = start
    for record in rounds:
        if record.outcome not in MEASURED:
            continue
        figure = measure.read(record) if record.outcome is RoundOutcome.COMMITTED else None
        if figure is not None and (mark is None or measure.improves(mark, figure, job.job.minimum_improvement)):
            mark, since = figure, 0
        else:
            since += 1
    return _describe(job, since, rounds, start) if since >= patience else ""


def _describe(job: JobFile, since: int, rounds: Sequence[RoundRecord], start: float | None) -> str:
    measure, least = job.evaluation.measure, job.job.minimum_improvement
    by = f" by {measure.describe_difference(least)} or more" if least else ""
    why = f"Ended early: {since} rounds in a row brought no better {measure}{by}."
    best = _find_best(measure, rounds, start)
    if best is None:
        return why
    if not best.round_number:
        return f"{why} The best version is the one before the first round, {measure.describe(best.figure)}."
    return (
        f"{why} The best version is that of round {best.round_number}, {measure.describe(best.figure)}:"
        f" `export {job.job.name} --round {best.round_number}`."
    )


def _find_best(measure: Measure, rounds: Sequence[RoundRecord], start: float | None) -> _Mark | None:
    """Return the best version; the earliest of equals."""
    best = None if start is None else _Mark(round_number=0, figure=start)
    for record in rounds:
        figure = measure.read(record)
        if record.outcome is not RoundOutcome.COMMITTED or figure is None:
            continue
        if best is None or measure.gain(best.figure, figure) > 0:
            best = _Mark(round_number=record.number, figure=figure)
    return best
