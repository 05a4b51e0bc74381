"""Names and labels of the metrics, as the contract gives them, and as Prometheus' own checker sees them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from itertools import product

import pytest
from grpc import StatusCode
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from coordinator.metrics.catalog import Catalog
from coordinator.metrics.description import Description, Kind, Unit
from coordinator.metrics.disk import DiskKind
from coordinator.metrics.rounds import CatalogRoundMetrics
from ravan.clock import ManualClock
from ravan.errors import ErrorReason
from ravan.ids import JobId
from ravan.manifest.phases import DropReason, JobState, RoundOutcome, RoundPhase, SiteState
from ravan.wire.v1 import operator_service_pb2

# Name as written, labels: what dashboards and alerts rely on.
CONTRACT = {
    "ravan_round_phase_seconds_bucket": {"phase", "le"},
    "ravan_rounds_total": {"outcome"},
    "ravan_sites": {"state"},
    "ravan_site_drops_total": {"phase", "reason"},
    "ravan_head_cohort_bucket": {"le"},
    "ravan_masked_bytes_total": set(),
    "ravan_unmask_seconds_sum": set(),
    "ravan_model_accuracy": {"job"},
    "ravan_model_loss": {"job"},
    "ravan_certificate_expiry_seconds": {"certificate"},
    "ravan_rpc_seconds_bucket": {"method", "outcome", "le"},
    "ravan_refusals_total": {"reason"},
    "ravan_disk_bytes": {"kind"},
    "ravan_build_info": {"version"},
}


@dataclass(frozen=True)
class Evaluation:
    accuracy: float
    loss: float


def used_catalog() -> Catalog:
    """Return a catalogue in which each metric has a sample."""
    catalog = Catalog()
    catalog.round_phase_seconds.labels(RoundPhase.TRAINING).observe(3)
    rounds = CatalogRoundMetrics(catalog, ManualClock())
    rounds.site_dropped(RoundPhase.UPLOADING, DropReason.DISCONNECTED)
    rounds.model_evaluated("defects", Evaluation(accuracy=0.8, loss=0.5))
    catalog.head_cohort.observe(4)
    catalog.certificate_expiry.labels("ca").set(1)
    catalog.note_call("/ravan.wire.v1.SiteService/Heartbeat", StatusCode.OK, 0.01)
    catalog.note_transaction("attach_site", 0.002)
    return catalog


def samples(catalog: Catalog) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(generate_latest(catalog.registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


@pytest.mark.parametrize("name", CONTRACT)
def test_contract_names_and_labels(name: str) -> None:
    found = samples(used_catalog())
    assert {frozenset(labels) for labels in found[name]} == {frozenset(CONTRACT[name])}


def test_closed_label_values_exist_from_the_start() -> None:
    found = samples(Catalog())
    assert {labels["outcome"] for labels in found["ravan_rounds_total"]} == set(RoundOutcome)
    assert {labels["state"] for labels in found["ravan_sites"]} == set(SiteState)
    assert {labels["state"] for labels in found["ravan_jobs"]} == set(JobState)
    assert {labels["reason"] for labels in found["ravan_refusals_total"]} == set(ErrorReason)
    assert {labels["kind"] for labels in found["ravan_disk_bytes"]} == set(DiskKind)


def test_descriptions_are_what_is_exposed() -> None:
    catalog = Catalog()
    kinds = {Kind.DISTRIBUTION: "gaugehistogram"}
    described = {each.name: (kinds.get(each.kind, each.kind.value), each.help) for each in catalog.descriptions}
    names = {"counter": "{}_total", "info": "{}_info"}
    exposed = {
        names.get(family.type, "{}").format(family.name): (
            "gauge" if family.type == "info" else family.type,
            family.documentation,
        )
        for family in catalog.registry.collect()
    }
    own = {name for name in described if name.startswith("ravan_")}
    assert {name: described[name] for name in own} == {name: exposed[name] for name in exposed if name in own}
    assert set(described) == set(exposed)
    assert len(described) == len(catalog.descriptions)


@pytest.mark.parametrize("described", Catalog().descriptions, ids=lambda described: described.name)
def test_each_description_has_a_question_and_its_unit_in_the_name(described: Description) -> None:
    assert described.question.endswith("?")
    assert described.help.endswith(".")
    last = described.name.removesuffix("_total").rpartition("_")[2]
    assert last == described.unit or described.unit in (Unit.COUNT, Unit.RATIO, Unit.NATS)
    assert last not in {"milliseconds", "ms", "mb", "percent"}


def test_series_have_the_labels_and_values_that_are_described() -> None:
    catalog = used_catalog()
    described = {name: each for each in catalog.descriptions for name in each.series}
    for name, found in samples(catalog).items():
        each = described[name]
        for labels in found:
            assert set(labels) - {"le"} == set(each.labels), name
            assert all(not values or labels[label] in values for label, values in each.labels.items()), name


def test_every_drop_can_be_counted_from_the_first() -> None:
    # A rate sees nothing of a counter that appears with its first value.
    found = samples(Catalog())["ravan_site_drops_total"]
    assert {(labels["phase"], labels["reason"]) for labels in found} == set(product(RoundPhase, DropReason))


def test_methods_are_a_closed_set() -> None:
    catalog = Catalog()
    operator = operator_service_pb2.DESCRIPTOR.services_by_name["OperatorService"]
    for method in operator.methods:
        catalog.note_call(f"/{operator.full_name}/{method.name}", StatusCode.OK, 0.1)
    for number in range(20):
        catalog.note_call(f"/ravan.wire.v1.Guessed/{number}", StatusCode.UNIMPLEMENTED, 0.1)
    methods = {labels["method"] for labels in samples(catalog)["ravan_rpc_seconds_count"]}
    assert methods == {f"OperatorService/{method.name}" for method in operator.methods} | {"unknown"}


def test_gauges_of_a_job_go_when_it_ends() -> None:
    catalog = Catalog()
    rounds = CatalogRoundMetrics(catalog, ManualClock())
    rounds.model_evaluated("defects", Evaluation(accuracy=0.8, loss=0.5))
    rounds.model_evaluated("parts", Evaluation(accuracy=0.7, loss=0.6))
    rounds.job_ended("defects")
    rounds.job_ended("never-evaluated")
    assert samples(catalog)["ravan_model_accuracy"] == [{"job": "parts"}]
    assert samples(catalog)["ravan_model_loss"] == [{"job": "parts"}]


def test_plans_of_rounds_and_jobs_are_shown() -> None:
    catalog = Catalog()
    rounds = CatalogRoundMetrics(catalog, ManualClock())

    def shown(name: str) -> float | None:
        return catalog.registry.get_sample_value(name)

    assert [shown(name) for name in ("ravan_training_deadline_seconds", "ravan_resting_sites")] == [0, 0]
    rounds.round_began(320.0)
    rounds.sites_resting(JobId("one"), 2)
    rounds.sites_resting(JobId("two"), 3)
    rounds.jobs_queued(4)
    assert shown("ravan_training_deadline_seconds") == 320
    assert shown("ravan_resting_sites") == 5
    assert shown("ravan_queued_jobs") == 4
    rounds.sites_resting(JobId("one"), 0)
    assert shown("ravan_resting_sites") == 3


def test_phases_of_several_jobs_are_counted() -> None:
    catalog = Catalog()
    rounds = CatalogRoundMetrics(catalog, ManualClock())
    rounds.phase_changed(JobId("one"), RoundPhase.TRAINING)
    rounds.phase_changed(JobId("two"), RoundPhase.TRAINING)
    rounds.phase_changed(JobId("one"), RoundPhase.SHARING)
    assert catalog.registry.get_sample_value("ravan_round_phase", {"phase": "training"}) == 1
    assert catalog.registry.get_sample_value("ravan_round_phase", {"phase": "sharing"}) == 1
    rounds.phase_changed(JobId("two"), None)
    assert catalog.registry.get_sample_value("ravan_round_phase", {"phase": "training"}) == 0


def test_commit_sets_its_time() -> None:
    catalog, clock = Catalog(), ManualClock(time=42.0)
    rounds = CatalogRoundMetrics(catalog, clock)
    rounds.round_ended(RoundOutcome.TOO_FEW_SITES, selected=5, counted=0)
    assert catalog.registry.get_sample_value("ravan_last_commit_timestamp_seconds") == 0
    rounds.round_ended(RoundOutcome.COMMITTED, selected=6, counted=4)
    assert catalog.registry.get_sample_value("ravan_last_commit_timestamp_seconds") == 42
    assert catalog.registry.get_sample_value("ravan_rounds_total", {"outcome": "committed"}) == 1
    assert catalog.registry.get_sample_value("ravan_selected_sites_total") == 11
    assert catalog.registry.get_sample_value("ravan_counted_sites_total") == 4


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian package prometheus) is not installed")
def test_promtool_finds_nothing_to_say() -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=generate_latest(used_catalog().registry),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
