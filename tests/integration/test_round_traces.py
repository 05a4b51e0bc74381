"""One trace of a real round: coordinator and agents are processes of their own and tell a collector their spans."""

from __future__ import annotations

import json
import urllib.request
from itertools import pairwise
from pathlib import Path

import pytest
from tiny_fleet import Fleet, running_fleet
from trace_collector import SeenSpan, trace_collector

from ravan.manifest.phases import RoundPhase
from ravan.tracing.spans import PHASE_OF, ROUND, Attribute, Work

pytestmark = pytest.mark.timeout(180)

SITES = ("plant-a", "plant-b", "plant-c")
AT_SITES = [
    Work.DOWNLOAD,
    Work.TRAIN,
    Work.ADVERTISE,
    Work.SHARE,
    Work.MASK,
    Work.UPLOAD,
    Work.CONFIRM,
    Work.REVEAL,
]
AT_HEADQUARTERS = [Work.UNMASK, Work.COMBINE, Work.EVALUATE, Work.COMMIT]
PHASES = [phase for phase in RoundPhase if phase is not RoundPhase.ENDED]


def works_of(spans: list[SeenSpan], who: str) -> list[str]:
    mine = [span for span in spans if span.who == who and span.name in set(Work)]
    return [span.name for span in sorted(mine, key=lambda span: (span.began_ns, span.ended_ns))]


def is_whole(spans: list[SeenSpan]) -> bool:
    done = {(span.who, span.name) for span in spans}
    return ROUND in {span.name for span in spans} and all((site, Work.REVEAL) in done for site in SITES)


def start_one_round(fleet: Fleet) -> None:
    assert fleet.add_model().returncode == 0
    for site in SITES:
        fleet.enrol(site)
        fleet.start(site)
    assert fleet.submit(round__minimum_sites=len(SITES)).returncode == 0


def scraped(fleet: Fleet, accept: str) -> str:
    port = json.loads((fleet.plant.coordinator_folder / "daemon.json").read_text())["http_port"]
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - an address of our own
        return str(answer.read().decode())


def test_one_trace_follows_a_round_over_coordinator_and_agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with trace_collector() as collector:
        monkeypatch.setenv("RAVAN_TRACING_ENDPOINT", collector.endpoint)
        monkeypatch.setenv("RAVAN_LOG_FORMAT", "json")
        with running_fleet(tmp_path) as fleet:
            start_one_round(fleet)
            spans = collector.await_spans(is_whole)
            open_metrics, plain = scraped(fleet, "application/openmetrics-text; version=1.0.0"), scraped(fleet, "")

    root = root_of(spans)
    assert root.attributes[Attribute.OUTCOME] == "committed"
    assert root.attributes[Attribute.SITES] == len(SITES)
    assert not any(span.failed for span in spans)
    assert {span.who for span in spans} == {root.who, *SITES}
    assert_phases_in_order(spans, root)
    assert works_of(spans, root.who) == AT_HEADQUARTERS
    for site in SITES:
        assert works_of(spans, site) == AT_SITES
        assert_lines_lead_to_the_round(fleet.log(site), site)
    for span in spans:
        assert_says_no_more(span)
    assert f'trace_id="{root.trace_id}"' in open_metrics
    assert root.trace_id not in plain


def root_of(spans: list[SeenSpan]) -> SeenSpan:
    """Check that all spans are one tree, and return its root."""
    assert len({span.trace_id for span in spans}) == 1
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans)
    (root,) = (span for span in spans if not span.parent_id)
    for span in spans:
        if span is not root:
            parent = by_id[span.parent_id]
            assert parent.name == ((PHASE_OF[Work(span.name)] or ROUND) if span.name in set(Work) else ROUND)
    return root


def assert_phases_in_order(spans: list[SeenSpan], root: SeenSpan) -> None:
    phases = sorted((span for span in spans if span.name in PHASES), key=lambda span: span.began_ns)
    assert [span.name for span in phases] == PHASES
    assert root.began_ns <= phases[0].began_ns
    assert phases[-1].ended_ns <= root.ended_ns
    microsecond = 1000  # what a time in seconds is exact to
    for before, after in pairwise(phases):
        assert abs(after.began_ns - before.ended_ns) <= microsecond


def assert_says_no_more(span: SeenSpan) -> None:
    assert set(span.resource) == {"service.name", "service.version", "service.instance.id"}
    said = set(span.attributes)
    assert {Attribute.JOB, Attribute.ROUND} <= said
    assert said <= (set(Attribute) if span.name == ROUND else {Attribute.JOB, Attribute.ROUND, Attribute.SITES})


def assert_lines_lead_to_the_round(log: str, site: str) -> None:
    lines = [json.loads(line) for line in log.splitlines()]
    assert {line["site"] for line in lines} == {site}
    stepped = {line["event"]: line for line in lines}
    assert (stepped["trained"]["round"], stepped["trained"]["phase"]) == (1, RoundPhase.TRAINING)
    assert (stepped["uploaded"]["round"], stepped["uploaded"]["phase"]) == (1, RoundPhase.UPLOADING)
