"""`docs/metrics.md` lists what the coordinator exposes, and every value of its closed labels."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from pages import read_codes, read_page, read_rows, read_section
from prometheus_client import generate_latest
from prometheus_client.metrics import MetricWrapperBase

from coordinator.enrolment.succession import RenewalOutcome
from coordinator.metrics.catalog import CERTIFICATES, ENDINGS, Catalog
from coordinator.metrics.disk import DiskKind
from coordinator.work.tasks import TaskState
from ravan.manifest.phases import DropReason, JobState, RoundOutcome, RoundPhase, SiteState

PAGE = read_page("metrics.md")
ROWS = read_rows(PAGE)


def exposed_types() -> dict[str, str]:
    lines = generate_latest(Catalog().registry).decode().splitlines()
    described = [line.split() for line in lines if line.startswith("# TYPE ")]
    return {words[2]: words[3] for words in described}


def labels_by_attribute(catalog: Catalog) -> dict[str, tuple[str, ...]]:
    # prometheus_client tells label names in no public way before a series exists
    metrics = [metric for metric in vars(catalog).values() if isinstance(metric, MetricWrapperBase)]
    return {family.name: metric._labelnames for metric in metrics for family in metric.describe()}


def test_page_lists_exactly_the_exposed_metrics_with_their_types() -> None:
    assert {row[0]: row[1] for row in ROWS} == exposed_types()
    assert len(ROWS) == len(exposed_types())


def test_page_names_the_labels() -> None:
    labels = labels_by_attribute(Catalog())
    assert labels["ravan_site_drops"] == ("phase", "reason")
    for name, _, listed, *_ in ROWS:
        if name.startswith("ravan_") and name != "ravan_build_info":
            assert listed == ", ".join(f"`{label}`" for label in labels[name.removesuffix("_total")]), name


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_each_metric_has_a_meaning_and_an_advice(row: list[str]) -> None:
    assert len(row) == 5
    assert all(cell.endswith(".") for cell in row[3:])


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
    ],
    ids=lambda values: getattr(values, "__name__", "certificates"),
)
def test_page_lists_the_values_of_closed_labels(values: Collection[str]) -> None:
    assert set(values) <= read_codes(read_section(PAGE, "## Label values"))
