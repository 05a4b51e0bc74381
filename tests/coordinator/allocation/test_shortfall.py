"""What a job says where heads have too few sites, and that following any of its advice is enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from fleets import BUDGET, MB, capacities, capacity
from hypothesis import given
from hypothesis import strategies as st
from job_plans import plan_of

from coordinator.allocation.coverage import CoverageRules, settle_depths
from coordinator.allocation.policy import Budget, SiteCapacity, find_reach
from coordinator.allocation.shortfall import Remedy, Shortfall, describe_shortfall, find_shortfall
from coordinator.allocation.tiles import form_tiles
from ravan.ids import SiteId
from ravan.manifest.assignment import Weighting

PLAN = plan_of(12)
TILES = form_tiles(PLAN)
FULL, HALF, NONE = capacity(1000), capacity(598.5), capacity(473)
"""Hold all 12 matrices, 6, and none; see test_tiles_and_reach."""


def fleet_of(*sites: SiteCapacity) -> dict[SiteId, SiteCapacity]:
    return {SiteId(f"s{i}"): site for i, site in enumerate(sites)}


def depth_of(fleet: Mapping[SiteId, SiteCapacity], rules: CoverageRules, budget: Budget = BUDGET) -> int:
    return max(settle_depths(find_reach(TILES, fleet, budget).depth_of, rules).values(), default=0)


def shortfall_of(
    fleet: Mapping[SiteId, SiteCapacity], rules: CoverageRules, absent: Mapping[SiteId, SiteCapacity] | None = None
) -> Shortfall | None:
    return find_shortfall(TILES, fleet, depth_of(fleet, rules), BUDGET, rules, absent or {})


def sentence(fleet: Mapping[SiteId, SiteCapacity], rules: CoverageRules) -> str:
    found = shortfall_of(fleet, rules)
    assert found is not None
    return describe_shortfall(PLAN, found, len(fleet))


def test_nothing_is_said_where_all_heads_have_enough_sites() -> None:
    assert shortfall_of(fleet_of(FULL, FULL, FULL, NONE), CoverageRules(threshold=3)) is None


def test_memory_is_asked_of_whoever_needs_least_more() -> None:
    # 450 + 12 * 20 MB, times 1.05, are 724.5 MB.
    assert sentence(fleet_of(FULL, NONE, FULL, HALF), CoverageRules(threshold=3)) == (
        "Nobody trains 24 of 48 heads, those of layer.0.query to layer.5.query: 2 of 4 sites can hold all heads, and 3"
        " are needed. To have all trained: raise the memory limit of s3 to 725 MiB."
    )


def test_a_lower_threshold_is_offered_where_three_sites_are_left() -> None:
    # 10 steps of 0.1 + 12 * 12 seconds, and a fifth of the deadline to spare.
    slow = capacity(1000, per_matrix_s=12.0 + 1 / 3)
    rules = CoverageRules(threshold=4)
    assert sentence(fleet_of(FULL, FULL, FULL, slow), rules) == (
        "Nobody trains 4 of 48 heads, those of layer.0.query: 3 of 4 sites can hold all heads, and 4 are needed. To"
        " have all trained: in a new job set [round] training_deadline_s = 1852; or in a new job set"
        " [secure_aggregation] bundle_threshold = 3."
    )


def test_many_sites_are_counted_beyond_the_third() -> None:
    text = sentence(fleet_of(*[HALF] * 5), CoverageRules(threshold=5))
    assert "raise the memory limit of s0 to 725 MiB, s1 to 725 MiB, s2 to 725 MiB and 2 more." in text


def test_a_machine_without_that_much_memory_is_not_asked() -> None:
    tiny = replace(HALF, hardware=replace(HALF.hardware, ram_total_bytes=600 * MB))
    text = sentence(fleet_of(FULL, FULL, tiny), CoverageRules(threshold=3))
    assert text.endswith("To have all trained: enrol 1 more that can hold all heads.")


def test_a_site_short_of_both_is_told_both() -> None:
    slow = capacity(598.5, per_matrix_s=13.0)
    text = sentence(fleet_of(FULL, FULL, slow), CoverageRules(threshold=3))
    # 10 * (0.1 + 12 * 13) / 0.8 seconds.
    assert text.endswith(
        ": raise the memory limit of s2 to 725 MiB and in a new job set [round] training_deadline_s = 1952."
    )


def test_weak_sites_that_draw_all_others_down_are_named() -> None:
    weighting = Weighting(limit=255, unit=16, cell_minimum=4, cell_threshold=3)
    fleet = fleet_of(*[FULL] * 6, HALF, HALF)
    assert sentence(fleet, CoverageRules(threshold=3, weighting=weighting)) == (
        "Nobody trains 24 of 48 heads, those of layer.0.query to layer.5.query: 6 of 8 sites can hold all heads, but"
        " the 2 that cannot are too few for a cell of 4, and all train what these can. To have all trained: raise the"
        " memory limit of s6 to 725 MiB, s7 to 725 MiB."
    )


def test_weak_sites_that_nothing_helps_are_done_without() -> None:
    weighting = Weighting(limit=255, unit=16, cell_minimum=4, cell_threshold=3)
    tiny = replace(HALF, hardware=replace(HALF.hardware, ram_total_bytes=600 * MB))
    found = shortfall_of(fleet_of(*[FULL] * 6, tiny, tiny), CoverageRules(threshold=3, weighting=weighting))
    assert found is not None
    assert found.remedies == (Remedy(without=(SiteId("s6"), SiteId("s7"))),)


def test_sites_that_only_have_to_take_part_are_named_first() -> None:
    rules, away = CoverageRules(threshold=4), {SiteId("x"): FULL, SiteId("y"): HALF, SiteId("z"): FULL}
    fleet = fleet_of(FULL, FULL, HALF, HALF)
    found = shortfall_of(fleet, rules, away)
    assert found is not None
    assert found.remedies[0] == Remedy(returning=(SiteId("x"), SiteId("z")))
    assert "To have all trained: wait for x, z to take part; or raise" in describe_shortfall(PLAN, found, len(fleet))
    fewer = shortfall_of(fleet_of(FULL, HALF, HALF, HALF), rules, away)
    assert fewer is not None
    assert all(not remedy.returning for remedy in fewer.remedies)


def follow(
    remedy: Remedy,
    fleet: Mapping[SiteId, SiteCapacity],
    rules: CoverageRules,
    absent: Mapping[SiteId, SiteCapacity],
) -> tuple[dict[SiteId, SiteCapacity], CoverageRules, Budget]:
    """Do what the remedy says, and nothing else."""
    changed = {site: capacity for site, capacity in fleet.items() if site not in remedy.without}
    for site, mib in remedy.memory_mib.items():
        hardware = replace(changed[site].hardware, ram_limit_bytes=mib * MB)
        changed[site] = replace(changed[site], hardware=hardware)
    changed |= {site: absent[site] for site in remedy.returning}
    for i in range(remedy.more_sites):
        changed[SiteId(f"new{i}")] = capacity(4000)
    settings = {key.split()[-1]: value for key, value in remedy.settings.items()}
    weighting = rules.weighting and replace(
        rules.weighting,
        cell_minimum=settings.get("cell_minimum", rules.weighting.cell_minimum),
        cell_threshold=settings.get("cell_threshold", rules.weighting.cell_threshold),
    )
    return (
        changed,
        CoverageRules(
            threshold=settings.get("bundle_threshold", rules.threshold),
            spare=settings.get("spare_sites", rules.spare),
            weighting=weighting,
        ),
        replace(BUDGET, training_deadline_s=remedy.deadline_s or BUDGET.training_deadline_s),
    )


def check_advice(sites: list[SiteCapacity], away: list[SiteCapacity], rules: CoverageRules) -> None:
    fleet, absent = fleet_of(*sites), {SiteId(f"away{i}"): site for i, site in enumerate(away)}
    found = shortfall_of(fleet, rules, absent)
    assert (found is None) == (depth_of(fleet, rules) == len(TILES))
    if found is None:
        return
    assert found.remedies
    for remedy in found.remedies:
        changed, eased, budget = follow(remedy, fleet, rules, absent)
        assert depth_of(changed, eased, budget) == len(TILES), remedy
        assert eased.threshold >= 3
        assert eased.weighting is None or eased.weighting.cell_minimum >= eased.weighting.cell_threshold >= 3


@given(
    st.lists(capacities, min_size=3, max_size=12),
    st.lists(capacities, max_size=4),
    st.integers(3, 8),
    st.integers(0, 3),
)
def test_any_advice_is_enough_alone(sites: list[SiteCapacity], away: list[SiteCapacity], more: int, spare: int) -> None:
    check_advice(sites, away, CoverageRules(threshold=3 + more, spare=spare))


three_kinds = st.sampled_from([FULL, HALF, NONE])


@given(st.lists(three_kinds, min_size=8, max_size=20), st.lists(three_kinds, max_size=4), st.integers(3, 4))
def test_any_advice_of_the_weighted_profile_is_enough_alone(
    sites: list[SiteCapacity], away: list[SiteCapacity], least: int
) -> None:
    weighting = Weighting(limit=255, unit=16, cell_minimum=least, cell_threshold=3)
    check_advice(sites, away, CoverageRules(threshold=3, weighting=weighting))


@pytest.mark.parametrize("depth", range(13))
def test_the_heads_that_are_named_are_those_below_what_is_trained(depth: int) -> None:
    found = find_shortfall(TILES, fleet_of(NONE, NONE, NONE), depth, BUDGET, CoverageRules(threshold=3), {})
    assert (0 if found is None else found.matrices) == 12 - depth
