"""Run a plan: choose learning rates by validation, then play every method with every seed on the test examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from lab.simulation import Outcome
from lab.study.cell import Cell, Part
from lab.study.crew import Submit, play_all
from lab.study.halving import count_runs, halve
from lab.study.outcomes import OutcomeFile
from lab.study.plan import FederationTable, MethodTable, Plan, TuningTable
from ravan.configuration import nearest_name
from ravan.errors import ConfigError, ErrorReason

Chosen = Mapping[tuple[str, str], float]
"""Learning rate by the names of federation and method."""


@dataclass(slots=True, kw_only=True)
class Course:
    """A plan on its way."""

    plan: Plan
    outcomes: OutcomeFile
    submit: Submit
    told: Callable[[Cell, Outcome], None] = field(default=lambda *_: None)

    def tune(self) -> Chosen:
        """Return the rate of every method in every federation."""
        # All methods climb a rung together, so that there is work for every core until its end.
        while missing := missing_rung(self.plan, self.outcomes):
            self._play(missing)
        for rung in _climb(self.plan, self.outcomes):
            self.outcomes.adopt(rung.values())
        return rates_found(self.plan, self.outcomes)

    def judge(self, chosen: Chosen) -> None:
        """Play everything that is reported."""
        cells = reported_cells(self.plan, chosen)
        self.outcomes.adopt(cells)
        self._play(cells)

    def _play(self, cells: Iterable[Cell]) -> None:
        missing = [cell for cell in dict.fromkeys(cells) if self.outcomes.find(cell) is None]

        def done(cell: Cell, outcome: Outcome) -> None:
            self.outcomes.add(cell, outcome)
            self.told(cell, outcome)

        play_all(missing, self.submit, done)


def missing_rung(plan: Plan, outcomes: OutcomeFile) -> list[Cell]:
    """Return the tuning runs that are to come next: those of the lowest rung that has any left."""
    for rung in _climb(plan, outcomes):
        if missing := [cell for cell in rung.values() if outcomes.find(cell) is None]:
            return missing
    return []


def rates_found(plan: Plan, outcomes: OutcomeFile) -> Chosen:
    """Return the rate of every method in every federation whose tuning is done, or that needs none."""
    chosen: dict[tuple[str, str], float] = {}
    if plan.tuning is not None and len(rungs := list(_climb(plan, outcomes))) == len(plan.tuning.rungs):
        played = _accuracies(rungs[-1], outcomes)
        chosen = {pair: min(mine, key=lambda rate: (-mine[rate], rate)) for pair, mine in played.items()}
    for federation in plan.federation:
        for method in plan.method:
            if method.learning_rate is not None:
                chosen[federation.name, method.name] = method.learning_rate
            elif method.rates_of is not None and (federation.name, method.rates_of) in chosen:
                chosen[federation.name, method.name] = chosen[federation.name, method.rates_of]
    return chosen


_Rung = Mapping[tuple[tuple[str, str], float, int], Cell]
"""By the names of federation and method, learning rate and seed."""


def _climb(plan: Plan, outcomes: OutcomeFile) -> Iterator[_Rung]:
    """Yield the cells of each rung: those of the methods and federations whose rung before is done."""
    if plan.tuning is None:
        return
    rates = {(f.name, m.name): plan.tuning.rates for f in plan.federation for m in plan.tuned_methods()}
    for rounds in plan.tuning.rungs:
        rung = {
            (pair, rate, seed): _tuning_cell(plan, plan.tuning, pair, rate, seed, rounds)
            for seed in plan.tuning.seeds
            for pair, mine in rates.items()
            for rate in mine
        }
        if not rung:
            return
        yield rung
        rates = {pair: halve(mine) for pair, mine in _accuracies(rung, outcomes).items()}


def _accuracies(rung: _Rung, outcomes: OutcomeFile) -> dict[tuple[str, str], dict[float, float]]:
    """Return the mean validation accuracy of each rate, for every federation and method that has played all of them."""
    found: dict[tuple[str, str], dict[float, list[float]]] = {}
    unfinished = set()
    for (pair, rate, _), cell in rung.items():
        if (outcome := outcomes.find(cell)) is None:
            unfinished.add(pair)
        else:
            found.setdefault(pair, {}).setdefault(rate, []).append(outcome.accuracy)
    finished = {pair: mine for pair, mine in found.items() if pair not in unfinished}
    return {pair: {rate: fmean(each) for rate, each in mine.items()} for pair, mine in finished.items()}


def reported_cells(plan: Plan, chosen: Chosen) -> list[Cell]:
    """Return the cells on the test examples, seed by seed, so that what is there is paired if the run ends early."""
    return [
        plan.cell(federation, method, chosen[federation.name, method.name], seed, Part.TEST)
        for seed in plan.study.seeds
        for federation in plan.federation
        for method in plan.method
    ]


def cells_of(plan: Plan, chosen: Chosen, method_name: str) -> list[Cell]:
    """Return a method's cells on the test examples in the plan's first federation.

    Raise ConfigError for a name that is none of the plan's methods, or one whose rate is not chosen yet.
    """
    names = [method.name for method in plan.method]
    if method_name not in names:
        raise ConfigError(
            f"{plan.study.name} has no method '{method_name}'.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step=nearest_name(method_name, names),
        )
    federation, method = _named(plan, (plan.federation[0].name, method_name))
    rate = chosen.get((federation.name, method.name))
    if rate is None:
        raise ConfigError(
            f"The learning rate of {method_name} is not chosen yet.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="Run the plan first, with `python -m lab run`.",
        )
    return _cells_at(plan, federation, method, rate)


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a plan still has to play, and how many of its runs are kept from before."""

    cells: tuple[Cell, ...]
    kept: int


def look_ahead(plan: Plan, outcomes: OutcomeFile) -> Ahead:
    """Return the runs that are left; where rates are not chosen yet, as many of each kind as there will be."""
    rungs = list(_climb(plan, outcomes))
    chosen = rates_found(plan, outcomes)
    known = [cell for rung in rungs for cell in rung.values()]
    later = _later_rungs(plan, rungs)
    for federation in plan.federation:
        for method in plan.method:
            rate = chosen.get((federation.name, method.name))
            if rate is not None:
                known += _cells_at(plan, federation, method, rate)
            elif plan.tuning is not None:
                later += _cells_at(plan, federation, method, plan.tuning.rates[0])
    missing = {cell: outcomes.find(cell) is None for cell in known}
    left = [cell for cell, is_missing in missing.items() if is_missing]
    return Ahead(cells=(*left, *later), kept=len(missing) - len(left))


def _later_rungs(plan: Plan, rungs: Sequence[_Rung]) -> list[Cell]:
    """Return as many cells of each kind as there will be in the rungs of which the rates are not known yet."""
    tuning = plan.tuning
    if tuning is None:
        return []
    reached = Counter(pair for rung in rungs for pair in {pair for pair, _, _ in rung})
    pairs = [(federation.name, method.name) for federation in plan.federation for method in plan.tuned_methods()]
    return [
        _tuning_cell(plan, tuning, pair, tuning.rates[0], seed, rounds)
        for pair in pairs
        for count, rounds in count_runs(len(tuning.rates), tuning.rungs)[reached[pair] :]
        for seed in tuning.seeds
        for _ in range(count)
    ]


def _cells_at(plan: Plan, federation: FederationTable, method: MethodTable, rate: float) -> list[Cell]:
    """Return a method's cells on the test examples, one a seed."""
    return [plan.cell(federation, method, rate, seed, Part.TEST) for seed in plan.study.seeds]


def _tuning_cell(plan: Plan, tuning: TuningTable, pair: tuple[str, str], rate: float, seed: int, rounds: int) -> Cell:
    federation, method = _named(plan, pair)
    cell = plan.cell(federation, method, rate, seed, Part.VALIDATION).with_rounds(rounds)
    return replace(cell, training=replace(cell.training, average_last=min(tuning.average_last, rounds)))


def _named(plan: Plan, pair: tuple[str, str]) -> tuple[FederationTable, MethodTable]:
    federation = next(each for each in plan.federation if each.name == pair[0])
    return federation, next(each for each in plan.method if each.name == pair[1])
