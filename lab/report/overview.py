"""Several studies in one table: methods by tasks and federations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.report.comparison import Row
from lab.report.tables import say_difference
from lab.study.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A plan and its rows."""

    plan: Plan
    rows: tuple[Row, ...]


def write_overview(studies: Sequence[Study]) -> str:
    """Return a table with a column for each federation: the baseline's accuracy, and the others' differences to it.

    The number of seeds stands behind each.
    """
    columns = [
        (f"{study.plan.study.task}: {federation.settled()}", _cells(study, federation.name))
        for study in studies
        for federation in study.plan.federation
    ]
    # Methods stand in the order in which plans name them; a dict keeps it.
    methods = dict.fromkeys(method.name for study in studies for method in study.plan.method)
    lines = [_line("method", [name for name, _ in columns]), "|---" * (1 + len(columns)) + "|"]
    lines += [
        _line(method, [cells.get(method, "") for _, cells in columns])
        for method in methods
        if any(method in cells for _, cells in columns)
    ]
    return "\n".join(lines) + "\n"


def _cells(study: Study, federation: str) -> dict[str, str]:
    return {row.method: _say(row) for row in study.rows if row.federation == federation}


def _say(row: Row) -> str:
    if row.difference is None:
        return f"{100 * row.mean:.2f} ({len(row.accuracies)})"
    said = say_difference(row.difference)
    return f"{said} ({row.difference.count})" if row.difference.count > 1 else said


def _line(first: str, others: Sequence[str]) -> str:
    return f"| {' | '.join([first, *others])} |"
