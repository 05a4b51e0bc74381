"""`docs/metrics.md` lists what the coordinator exposes, and every value of its closed labels."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from pages import read_codes, read_page, read_rows, read_section

from coordinator.enrolment.succession import RenewalOutcome
from coordinator.metrics.catalog import CERTIFICATES, ENDINGS, Catalog
from coordinator.metrics.description import Unit
from coordinator.metrics.disk import DiskKind
from coordinator.metrics.fleet_health import Release
from coordinator.work.tasks import TaskState
from ravan.manifest.phases import AgentActivity, DropReason, JobState, RoundOutcome, RoundPhase, SiteState

PAGE = read_page("metrics.md")
ROWS = read_rows(PAGE)


DESCRIBED = {described.name: described for described in Catalog().descriptions}


def test_page_lists_exactly_the_metrics_of_the_catalogue() -> None:
    assert sorted(row[0] for row in ROWS) == sorted(DESCRIBED)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_page_tells_type_labels_and_question_as_the_catalogue(row: list[str]) -> None:
    described = DESCRIBED[row[0]]
    unit = "" if described.unit is Unit.COUNT else f", {described.unit}"
    assert row[1:4] == [
        f"{described.kind}{unit}",
        ", ".join(f"`{label}`" for label in described.labels),
        described.question,
    ]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_each_metric_has_a_meaning_and_an_advice(row: list[str]) -> None:
    assert len(row) == 6
    assert all(cell.endswith(".") for cell in row[4:])


@pytest.mark.parametrize(
    "values",
    [
        RoundPhase,
        RoundOutcome,
        DropReason,
        JobState,
        SiteState,
        CERTIFICATES,
        ENDINGS,
        RenewalOutcome,
        DiskKind,
        TaskState,
        AgentActivity,
        Release,
    ],
    ids=lambda values: getattr(values, "__name__", "certificates"),
)
def test_page_lists_the_values_of_closed_labels(values: Collection[str]) -> None:
    assert set(values) <= read_codes(read_section(PAGE, "## Label values"))
