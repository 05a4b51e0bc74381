"""Whether a new version may take the place of the one that its round started from. Pure."""

from __future__ import annotations

import math

from coordinator.jobs.jobfile import EvaluationTable
from coordinator.jobs.measure import Gate
from coordinator.rounds.results import Evaluation


def find_refusal(table: EvaluationTable, before: float | None, after: Evaluation) -> str:
    """Return one sentence on why the job's gate refuses a version; empty where it may pass.

    `before` is the figure by which the job measures the version before; None where it is not known.
    """
    if not (math.isfinite(after.accuracy) and math.isfinite(after.loss)):
        return "Its loss on the held-out data is not finite; the version before stays."
    if table.gate is Gate.FINITE or before is None:
        return ""
    figure = table.measure.read(after)
    if figure is None or not table.measure.worsens(before, figure, table.gate_tolerance):
        return ""
    allowed = table.measure.describe_difference(table.gate_tolerance)
    how = f"worse by more than {allowed}" if table.gate_tolerance else "worse"
    named, earlier = table.measure.describe(figure), table.measure.describe(before)
    return f"It is {how} on the held-out data ({named} after {earlier}); the version before stays."
