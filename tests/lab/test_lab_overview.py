"""Several studies side by side."""

from __future__ import annotations

import pytest
from study_plans import PLAN, TUNED
from tiny_lab import tiny_task

from lab.report.comparison import Row
from lab.report.overview import Study, write_overview
from lab.study.paired import Difference
from lab.study.plan import Plan
from lab.tasks import registry
from ravan.configuration import read_text


@pytest.fixture(autouse=True)
def _tiny_task_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.TASKS, "tiny", tiny_task)


def row_of(federation: str, method: str, accuracies: tuple[float, ...], difference: Difference | None) -> Row:
    return Row(
        federation=federation,
        method=method,
        learning_rate=0.01,
        accuracies=accuracies,
        difference=difference,
        uploaded=1.0,
        downloaded=1.0,
        minutes=1.0,
        diverged=0,
    )


def clear(mean: float, half_width: float, pairs: int) -> Difference:
    return Difference(mean=mean, half_width=half_width, count=pairs)


def test_methods_stand_by_federations_with_their_seeds() -> None:
    tiny = Study(
        plan=read_text(Plan, PLAN, source="plan"),
        rows=(
            row_of("iid", "fedit", (0.5, 0.6), clear(-0.05, 0.01, 2)),
            row_of("iid", "ravan", (0.6, 0.6), None),
        ),
    )
    tuned = Study(
        plan=read_text(Plan, TUNED, source="plan"),
        rows=(
            row_of("iid", "ravan", (0.5,), None),
            row_of("skewed", "ravan", (0.25, 0.35, 0.3), None),
            row_of("iid", "floor", (0.4,), clear(-0.1, float("inf"), 1)),
            row_of("skewed", "floor", (0.3, 0.3, 0.33), clear(0.01, 0.02, 3)),
        ),
    )
    assert write_overview([tiny, tuned]).splitlines() == [
        "| method | tiny: iid, 2 of 2, equal | tiny: iid, 2 of 2, equal | tiny: dirichlet(0.5), 2 of 3, equal |",
        "|---|---|---|---|",
        "| ravan | 60.00 (2) | 50.00 (1) | 30.00 (3) |",
        "| fedit | **-5.00 ± 1.00** (2) |  |  |",
        "| floor |  | -10.00 (one seed) | +1.00 ± 2.00 (3) |",
    ]
