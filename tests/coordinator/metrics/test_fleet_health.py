"""What heartbeats and profiles tell of the fleet, as buckets: a site counts once, and nobody is named."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from coordinator.fleet.status import SiteStatus
from coordinator.metrics.catalog import SKEW_BUCKETS, Catalog
from coordinator.metrics.distribution import spread_out
from coordinator.metrics.fleet_health import Release, compare_release, measure_fleet
from ravan.manifest.liveness import Heartbeat
from ravan.manifest.phases import AgentActivity
from ravan.manifest.profile import HardwareProfile, LimitSource

NOW = 1_800_000_000.0
GIB = 1 << 30


def machine(version: str = "1.2.0", *, limit: int = 2 * GIB, disk_free: int = 5 * GIB) -> HardwareProfile:
    return HardwareProfile(
        cores=2,
        ram_total_bytes=8 * GIB,
        ram_limit_bytes=limit,
        ram_limit_source=LimitSource.CONFIG,
        disk_free_bytes=disk_free,
        aes_instructions=True,
        cpu_capability="",
        agent_version=version,
    )


def beat(
    activity: AgentActivity = AgentActivity.IDLE, *, rss: int = 0, peak: int = 0, step_s: float = 0.0
) -> Heartbeat:
    return Heartbeat(
        process_id=bytes(16), activity=activity, rss_bytes=rss, peak_rss_bytes=peak, step_cpu_s=step_s, site_time=NOW
    )


def site(
    heartbeat: Heartbeat | None,
    hardware: HardwareProfile | None,
    *,
    seen_s_ago: float = 0.0,
    ahead_s: float | None = None,
) -> SiteStatus:
    return SiteStatus(
        process_id=bytes(16),
        last_seen=NOW - seen_s_ago,
        hardware=hardware,
        heartbeat=heartbeat,
        clock_ahead_s=ahead_s,
    )


FLEET = (
    site(beat(AgentActivity.TRAINING, rss=GIB, peak=GIB, step_s=0.5), machine(), seen_s_ago=3, ahead_s=-90.0),
    site(beat(rss=GIB // 2, peak=2 * GIB), machine("1.1.0"), ahead_s=0.25),
    # Just connected: it has told nothing yet.
    site(None, None, seen_s_ago=1),
    # Its clock was set back since: no time has a negative age.
    site(None, machine("1.3.0"), seen_s_ago=-7),
)


def test_each_site_gives_what_it_has_told() -> None:
    health = measure_fleet(FLEET, NOW, "1.2.0")
    assert health.resident_bytes == (GIB, GIB // 2)
    assert health.memory_ratios == (0.5, 1.0)
    assert health.disk_free_bytes == (5 * GIB,) * 3
    assert health.step_cpu_s == (0.5,)
    assert health.silences_s == (3.0, 0.0, 1.0, 0.0)
    assert health.clock_skews_s == (90.0, 0.25)
    assert health.activities == {AgentActivity.TRAINING: 1, AgentActivity.IDLE: 1}
    assert health.releases == dict.fromkeys(Release, 1)


@pytest.mark.parametrize(
    ("theirs", "release"),
    [
        ("1.2.0", Release.SAME),
        ("1.2", Release.SAME),
        ("1.1.9", Release.OLDER),
        ("1.2.0rc1", Release.OLDER),
        ("1.10.0", Release.NEWER),
        ("", Release.UNKNOWN),
        ("newest", Release.UNKNOWN),
    ],
)
def test_releases_are_compared_as_versions(theirs: str, release: Release) -> None:
    assert compare_release(theirs, "1.2.0") is release


@given(st.lists(st.floats(min_value=0, max_value=1e9)), st.sets(st.floats(min_value=0, max_value=1e9), min_size=1))
def test_buckets_count_what_is_at_most_their_bound(values: list[float], bounds: set[float]) -> None:
    ascending = (*sorted(bounds), math.inf)
    spread = spread_out(values, ascending)
    assert spread.up_to == tuple(sum(value <= bound for value in values) for bound in ascending)
    assert spread.total == pytest.approx(sum(values))


def test_the_catalogue_shows_the_fleet_of_now_and_forgets_the_one_before() -> None:
    catalog = Catalog()
    seen: list[dict[str, float | None]] = []
    for fleet in (FLEET, FLEET[1:2], ()):
        catalog.show_fleet(measure_fleet(fleet, NOW, "1.2.0"))
        value = catalog.registry.get_sample_value
        seen.append(
            {
                "wrong": (value("ravan_site_clock_skew_seconds_gcount") or 0)
                - (value("ravan_site_clock_skew_seconds_bucket", {"le": "60.0"}) or 0),
                "told": value("ravan_site_clock_skew_seconds_gcount"),
                "training": value("ravan_site_activities", {"activity": "training"}),
                "older": value("ravan_site_releases", {"release": "older"}),
            }
        )
    assert seen == [
        {"wrong": 1, "told": 2, "training": 1, "older": 1},
        {"wrong": 0, "told": 1, "training": 0, "older": 1},
        {"wrong": 0, "told": 0, "training": 0, "older": 0},
    ]


def test_a_fleet_of_any_size_takes_as_many_series() -> None:
    def series(sites: int) -> Counter[str]:
        catalog = Catalog()
        catalog.show_fleet(measure_fleet(FLEET * sites, NOW, "1.2.0"))
        lines = generate_latest(catalog.registry).decode().splitlines()
        return Counter(line.partition("{")[0].partition(" ")[0] for line in lines if line.startswith("ravan_site_"))

    assert series(1) == series(50)
    assert series(1)["ravan_site_clock_skew_seconds_bucket"] == len(SKEW_BUCKETS) + 1
