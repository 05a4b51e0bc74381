"""The rows of a report: each method in each federation beside the baseline. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lab.simulation import Outcome
from lab.study.cell import Part
from lab.study.outcomes import OutcomeFile
from lab.study.paired import Difference, compare, spread
from lab.study.plan import FederationTable, MethodTable, Plan
from lab.study.run import Chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method in one federation, over the seeds that both it and the baseline have."""

    federation: str
    method: str
    learning_rate: float
    accuracies: tuple[float, ...]
    difference: Difference | None
    """To the baseline; None for the baseline itself."""
    uploaded: float
    """Bytes of the whole run over all clients, mean over seeds."""
    downloaded: float
    minutes: float
    """Of one core, mean over seeds."""
    diverged: int

    @property
    def mean(self) -> float:
        """Return the mean accuracy."""
        return sum(self.accuracies) / len(self.accuracies)

    @property
    def deviation(self) -> float:
        """Return the standard deviation over seeds."""
        return spread(self.accuracies)


def compare_methods(plan: Plan, chosen: Chosen, outcomes: OutcomeFile) -> Iterator[Row]:
    """Yield a row for each federation and method that has outcomes."""
    base = next(method for method in plan.method if method.name == plan.study.baseline)
    for federation in plan.federation:
        reference = _outcomes_of(plan, chosen, outcomes, federation, base)
        for method in plan.method:
            mine = _outcomes_of(plan, chosen, outcomes, federation, method)
            seeds = sorted(mine.keys() & reference.keys())
            if seeds:
                yield Row(
                    federation=federation.name,
                    method=method.name,
                    learning_rate=chosen[federation.name, method.name],
                    accuracies=tuple(mine[seed].accuracy for seed in seeds),
                    difference=None
                    if method is base
                    else compare([mine[s].accuracy for s in seeds], [reference[s].accuracy for s in seeds]),
                    uploaded=sum(mine[seed].uploaded for seed in seeds) / len(seeds),
                    downloaded=sum(mine[seed].downloaded for seed in seeds) / len(seeds),
                    minutes=sum(mine[seed].seconds for seed in seeds) / len(seeds) / 60,
                    diverged=sum(mine[seed].diverged for seed in seeds),
                )


def _outcomes_of(
    plan: Plan, chosen: Chosen, outcomes: OutcomeFile, federation: FederationTable, method: MethodTable
) -> dict[int, Outcome]:
    rate = chosen.get((federation.name, method.name))
    if rate is None:
        return {}
    found = {seed: outcomes.find(plan.cell(federation, method, rate, seed, Part.TEST)) for seed in plan.study.seeds}
    return {seed: outcome for seed, outcome in found.items() if outcome is not None}
