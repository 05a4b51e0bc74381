"""A real Prometheus that scrapes a real coordinator with a fleet: what it says is what is in the database."""

from __future__ import annotations

import asyncio
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mounted_disk import mounted_disk
from prometheus_rules import needs_promtool
from prometheus_server import PrometheusServer, prometheus_server
from trace_collector import trace_collector

from coordinator.config import DataFolder
from coordinator.enrolment.ca import SERVER_LIFE, issue_server
from coordinator.enrolment.pki import SERVER_CERTIFICATE, SERVER_KEY, load_pki, write_leaves
from coordinator.metrics.catalog import CERTIFICATES, Catalog
from coordinator.metrics.description import Kind
from coordinator.store.records import RoundRecord
from coordinator.store.sql.store import open_store
from deploy.grafana.boards import BOARDS
from ravan.identity.certificates import pem_of
from ravan.identity.keyfiles import write_private
from ravan.identity.keys import new_tls_key, private_pem
from ravan.ids import JobId
from ravan.manifest.phases import AgentActivity, RoundOutcome, RoundPhase
from ravan.tracing.spans import ROUND
from simulation.faults import DropOuts
from simulation.job import Order
from simulation.scene import Scene, set_scene
from simulation.steps import Step

pytestmark = pytest.mark.timeout(300)

SITES = 6
ROUNDS = 3
LONGEST_S = 120.0
REFUSING = "not_worse"
DAY_S = 86_400


@asynccontextmanager
async def watched_scene(
    folder: Path,
    settings: Mapping[str, object],
    drop_outs: DropOuts | None = None,
    *,
    rounds: int = ROUNDS,
    sites: int = SITES,
    small: int = 0,
    gate: str = "finite",
) -> AsyncIterator[tuple[Scene, PrometheusServer]]:
    """Set a scene whose coordinator is scraped; the fleet works, and `ROUNDS` rounds are over unless a gate refuses."""
    order = Order(rounds=rounds, minimum_sites=sites - 2, gate=gate, measure="loss")
    settings = {"FLEET_HEARTBEAT_INTERVAL_S": 1, "FLEET_SILENCE_S": 2, **settings}
    async with set_scene(folder, sites, order, settings=settings, drop_outs=drop_outs, small=small) as scene:
        watch = folder / "prometheus"
        watch.mkdir()
        with prometheus_server(watch, target_of(scene)) as prometheus:
            # Increases count from the first scrape, and the first rounds take less than a second.
            await asyncio.to_thread(prometheus.await_value, 'up{job="ravan"}', 1)
            scene.fleet.start()
            if gate == REFUSING:
                pass  # nobody knows how many are committed
            elif rounds == ROUNDS:
                await scene.until_completed(within_s=LONGEST_S)
            else:
                await scene.until_committed(ROUNDS, within_s=LONGEST_S)
            yield scene, prometheus


def target_of(scene: Scene) -> str:
    return f"127.0.0.1:{scene.headquarters.settings().server.http_port}"


async def stored_rounds(scene: Scene) -> list[RoundRecord]:
    store = open_store(DataFolder(scene.headquarters.folder).database)
    try:
        job = JobId(scene.job_id)
        return list(await store.transact("read", lambda transaction: transaction.list_rounds(job)))
    finally:
        await store.close()


def check_metrics(target: str) -> subprocess.CompletedProcess[bytes]:
    with urllib.request.urlopen(f"http://{target}/metrics", timeout=10) as answer:
        exposition = answer.read()
    return subprocess.run(["promtool", "check", "metrics"], input=exposition, capture_output=True, check=False)


def assert_described(found: Sequence[Mapping[str, Any]]) -> None:
    """Check that what Prometheus has of the coordinator is in the catalogue, by name and by label."""
    described = {name: each for each in Catalog().descriptions for name in each.series}
    assert len({series["metric"]["__name__"] for series in found}) > len(described) / 2
    for series in found:
        labels = {name.removeprefix("exported_") for name in series["metric"]}
        each = described[series["metric"]["__name__"]]
        bucket = {"le"} if each.kind in (Kind.HISTOGRAM, Kind.DISTRIBUTION) else set()
        assert labels - {"__name__", "instance", "job"} - bucket == set(each.labels) - {"job"}


@needs_promtool
async def test_figures_are_those_of_the_database(tmp_path: Path) -> None:
    cut = DropOuts(rate=0.3, steps=(Step.TRAIN,), rounds=(2,), seed=3)
    async with watched_scene(tmp_path, {}, cut) as (scene, prometheus):
        rounds = await stored_rounds(scene)

        def compare() -> None:
            prometheus.await_value('ravan_rounds_total{outcome="committed"}', ROUNDS)
            assert prometheus.value("sum(ravan_rounds_total)") == len(rounds)
            assert prometheus.value("ravan_selected_sites_total") == sum(len(each.selected) for each in rounds)
            assert prometheus.value("ravan_counted_sites_total") == sum(len(each.completed) for each in rounds)
            drops = Counter((drop.phase, drop.reason) for each in rounds for drop in each.dropped)
            seen = prometheus.query("ravan_site_drops_total > 0")
            assert {(s["metric"]["phase"], s["metric"]["reason"]): float(s["value"][1]) for s in seen} == drops
            assert prometheus.value("ravan_head_cohort_count") == sum(len(each.cohorts) for each in rounds)
            assert prometheus.value("ravan_head_cohort_sum") == sum(sum(each.cohorts.values()) for each in rounds)
            uploads = sum(site.upload_bytes for each in rounds for site in each.sites)
            assert prometheus.value("ravan_masked_bytes_total") == uploads
            trained = sum(each.phase_seconds[RoundPhase.TRAINING] for each in rounds)
            assert prometheus.value('ravan_round_phase_seconds_sum{phase="training"}') == pytest.approx(trained)
            # Read from the database at each scrape: the round is counted a moment before its job has ended.
            prometheus.await_value('ravan_jobs{state="completed"}', 1)

        assert {each.outcome for each in rounds} == {RoundOutcome.COMMITTED}
        assert any(each.dropped for each in rounds)
        await asyncio.to_thread(compare)


async def test_the_time_of_a_phase_leads_to_the_trace_of_its_round(tmp_path: Path) -> None:
    with trace_collector() as collector:
        async with watched_scene(tmp_path, {"TRACING_ENDPOINT": collector.endpoint}) as (_, prometheus):

            def compare() -> None:
                spans = collector.await_spans(lambda seen: sum(span.name == ROUND for span in seen) == ROUNDS)
                traces = {span.trace_id for span in spans if span.name == ROUND}
                assert len(traces) == ROUNDS
                newest = max((span for span in spans if span.name == ROUND), key=lambda span: span.ended_ns).trace_id
                for metric in ("ravan_round_phase_seconds_bucket", "ravan_unmask_seconds_bucket"):
                    prometheus.await_so(lambda name=metric: newest in prometheus.exemplars(name), lambda: newest)  # type: ignore[misc]
                    assert prometheus.exemplars(metric) <= traces

            await asyncio.to_thread(compare)


@needs_promtool
async def test_heartbeats_show_as_distributions_and_what_is_exposed_is_sound(tmp_path: Path) -> None:
    async with watched_scene(tmp_path, {}) as (scene, prometheus):

        def look() -> None:
            for name in ("resident_bytes", "memory_ratio", "disk_free_bytes", "silence_seconds", "clock_skew_seconds"):
                prometheus.await_value(f"ravan_site_{name}_gcount", SITES)
            # The agents' clock is this machine's.
            prometheus.await_value('ravan_site_clock_skew_seconds_bucket{le="60.0"}', SITES)
            prometheus.await_value('ravan_site_releases{release="same"}', SITES)
            prometheus.await_value("sum(ravan_site_activities)", SITES)
            activities = {each["metric"]["activity"] for each in prometheus.query("ravan_site_activities")}
            assert activities == set(AgentActivity)
            expiries = prometheus.query("ravan_certificate_expiry_seconds")
            certificates = {each["metric"]["certificate"] for each in expiries}
            assert certificates == set(CERTIFICATES)

            checked = check_metrics(target_of(scene))
            assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
            assert_described(prometheus.query('{job="ravan",__name__=~"ravan_.+|process_.+"}'))

        await asyncio.to_thread(look)


async def test_every_panel_of_the_dashboards_has_figures(tmp_path: Path) -> None:
    queries = [query.expression for board in BOARDS for panel in board.panels for query in panel.queries]
    # Gauges of a model go with its job, and rates need rounds between two scrapes: the job goes on meanwhile.
    async with watched_scene(tmp_path, {}, rounds=1000) as (_, prometheus):

        def empty() -> list[str]:
            return [query for query in queries if not prometheus.figures(query.replace("$__rate_interval", "30s"))]

        await asyncio.to_thread(prometheus.await_so, lambda: not empty(), lambda: "\n".join(empty()))


async def test_one_trouble_after_another_fires_its_alert_alone(tmp_path: Path) -> None:
    async with watched_scene(tmp_path, {}) as (scene, prometheus):
        await asyncio.to_thread(prometheus.await_value, 'ravan_sites{state="online"}', SITES)
        await asyncio.to_thread(prometheus.await_evaluations, 5)
        assert await asyncio.to_thread(prometheus.firing) == {}
        await age_server_certificate(scene, prometheus)
        await scene.fleet.kill()
        gone = await asyncio.to_thread(prometheus.await_firing, "RavanSitesOffline")
        assert set(gone) == {"RavanSitesOffline"}
        assert_explained(gone["RavanSitesOffline"], "Only 0 sites are connected")
        await scene.headquarters.stop()
        down = await asyncio.to_thread(prometheus.await_firing, "RavanCoordinatorDown")
        assert set(down) == {"RavanCoordinatorDown"}
        assert_explained(down["RavanCoordinatorDown"], f"{target_of(scene)} does not answer")


async def age_server_certificate(scene: Scene, prometheus: PrometheusServer) -> None:
    """Give the coordinator a certificate that ends in ten days, see the alert on it, and renew it."""
    pki, key = DataFolder(scene.headquarters.folder).pki, new_tls_key()
    authority = load_pki(pki).authority
    made_at = time.time() - SERVER_LIFE.total_seconds() + 10 * DAY_S
    old = issue_server(authority, key.public_key(), hosts=["localhost"], now=made_at)
    write_private(pki / SERVER_KEY, private_pem(key))
    write_private(pki / SERVER_CERTIFICATE, pem_of([old]))
    firing = await asyncio.to_thread(prometheus.await_firing, "RavanCertificateEnds")
    assert set(firing) == {"RavanCertificateEnds"}
    summary = firing["RavanCertificateEnds"]["annotations"]["summary"]
    assert summary.startswith("The coordinator's server certificate ends in 9d 23h")
    write_leaves(pki, authority, ["localhost"], time.time())
    await asyncio.to_thread(prometheus.await_so, lambda: not prometheus.firing(), lambda: "the alert to end")


async def test_certificates_near_their_end_fire_their_alert_alone(tmp_path: Path) -> None:
    async with watched_scene(tmp_path, {"ENROLMENT_CERTIFICATE_DAYS": 1}) as (_, prometheus):
        firing = await asyncio.to_thread(prometheus.await_firing, "RavanSiteCertificateEnds")
        assert set(firing) == {"RavanSiteCertificateEnds"}
        assert_explained(firing["RavanSiteCertificateEnds"], f"{SITES} sites have not renewed their certificate")


async def test_a_disk_with_little_room_fires_its_alert_alone(tmp_path: Path) -> None:
    with mounted_disk(tmp_path / "headquarters", "96m"):
        async with watched_scene(tmp_path, {"LIMITS_DISK_RESERVE_MB": 0}) as (_, prometheus):
            firing = await asyncio.to_thread(prometheus.await_firing, "RavanDiskLow")
            assert set(firing) == {"RavanDiskLow"}
            free = float(firing["RavanDiskLow"]["value"])
            assert 0 < free < 96 << 20
            assert "MiB are free" in firing["RavanDiskLow"]["annotations"]["summary"]


async def test_heads_behind_which_too_few_sites_stand_fire_their_alert_alone(tmp_path: Path) -> None:
    # Three have room for the lower head, which is the threshold, and one of them never uploads.
    cut = DropOuts(rate=1.0, steps=(Step.UPLOAD,), sites=("sim-0000",))
    async with watched_scene(tmp_path, {}, cut, sites=8, small=5) as (scene, prometheus):
        rounds = await stored_rounds(scene)
        assert [sorted(each.cohorts.values()) for each in rounds] == [[0, 7]] * ROUNDS
        assert all(each.outcome is RoundOutcome.COMMITTED and each.withheld for each in rounds)
        firing = await asyncio.to_thread(prometheus.await_firing, "RavanHeadsWithheld")
        assert set(firing) == {"RavanHeadsWithheld"}
        assert_explained(firing["RavanHeadsWithheld"], "50% of the heads keep their old value")


async def test_versions_that_the_gate_refuses_fire_their_alert_alone(tmp_path: Path) -> None:
    # The updates are made up, so that the loss falls for some rounds at most.
    async with watched_scene(tmp_path, {}, rounds=1000, gate=REFUSING) as (scene, prometheus):
        firing = await asyncio.to_thread(prometheus.await_firing, "RavanGateRefusals")
        assert set(firing) == {"RavanGateRefusals"}
        assert "error" not in firing["RavanGateRefusals"]["annotations"]["description"]
        assert [each.outcome for each in await stored_rounds(scene)].count(RoundOutcome.REFUSED) >= 2


async def test_sites_that_lose_their_power_in_every_round_fire_the_alert_on_their_reason_alone(tmp_path: Path) -> None:
    cut = DropOuts(rate=1.0, steps=(Step.TRAIN,), sites=("sim-0000", "sim-0001"))
    async with watched_scene(tmp_path, {}, cut, sites=8) as (scene, prometheus):
        drops = Counter(drop.reason for each in await stored_rounds(scene) for drop in each.dropped)
        firing = await asyncio.to_thread(prometheus.await_firing, "RavanDropReasonSpike")
        assert set(firing) == {"RavanDropReasonSpike"}
        [(reason, count)] = drops.most_common(1)
        assert firing["RavanDropReasonSpike"]["labels"]["reason"] == reason
        assert float(firing["RavanDropReasonSpike"]["value"]) == pytest.approx(count / (8 * ROUNDS), abs=0.02)


def assert_explained(alert: Mapping[str, Any], summary: str) -> None:
    assert alert["annotations"]["summary"] == summary
    assert "error" not in alert["annotations"]["description"]
