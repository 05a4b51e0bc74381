"""What keeps a fleet from covering all heads, and what would have to change. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from coordinator.allocation.coverage import CoverageRules, count_holders
from coordinator.allocation.policy import (
    Budget,
    SiteCapacity,
    find_reach,
    matrices_from_top,
    needed_bytes,
    needed_deadline_s,
)
from ravan.ids import SiteId
from ravan.manifest.assignment import BUNDLE_FLOOR, Tile
from ravan.manifest.plan import JobPlan

MIB: Final = 1 << 20
NAMED_SITES: Final = 3
"""Sites that a sentence names before it counts the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """Changes that let all heads be trained when all of them are made."""

    memory_mib: Mapping[SiteId, int] = field(default_factory=dict)
    """Memory limits that sites need."""
    deadline_s: int | None = None
    """Training deadline that is needed."""
    settings: Mapping[str, int] = field(default_factory=dict)
    """Keys of the job file, with their tables, and the values that they need."""
    more_sites: int = 0
    """Sites to enrol that can hold all heads."""
    without: tuple[SiteId, ...] = ()
    """Sites to do without."""
    returning: tuple[SiteId, ...] = ()
    """Sites that can hold all heads and only have to take part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """Heads that nobody trains in a round, since too few sites can hold them."""

    matrices: int
    """From the bottom of the model; all their heads."""
    able: int
    """Sites of the round that can hold all heads."""
    needed: int
    """Sites that it takes."""
    weaker: int = 0
    """Weighted profile: sites that hold less and are too few for a cell, where that is what keeps the able ones."""
    remedies: tuple[Remedy, ...]
    """Each is enough alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Need:
    """What one site lacks to hold all heads."""

    site: SiteId
    memory_mib: int
    """Limit that it needs, 0 when its own is enough."""
    further_mib: int
    deadline_s: int
    """Deadline that it needs, 0 when the job's is enough."""


def find_shortfall(
    tiles: Sequence[Tile],
    fleet: Mapping[SiteId, SiteCapacity],
    depth: int,
    budget: Budget,
    rules: CoverageRules,
    absent: Mapping[SiteId, SiteCapacity],
) -> Shortfall | None:
    """Return what is missing where only the uppermost `depth` tiles are trained by the sites of `fleet`.

    `absent` are sites that prepared the job and are not in the round.
    """
    if depth >= len(tiles):
        return None
    matrices = matrices_from_top(tiles)
    reach = find_reach(tiles, fleet, budget).depth_of
    able = count_holders(reach, len(tiles) - 1)
    needed = max(rules.wanted, rules.weighting.cell_minimum if rules.weighting else 0)
    unable = [site for site in sorted(fleet) if reach.get(site, 0) < len(tiles)]
    needs = [need for site in unable if (need := _need_of(site, fleet[site], matrices[-1], budget)) is not None]
    if able < needed:
        weaker: tuple[SiteId, ...] = ()
        missing = needed - able
        away = [site for site, depth in find_reach(tiles, absent, budget).depth_of.items() if depth == len(tiles)]
        remedies = [Remedy(returning=tuple(away))] if len(away) >= missing else []
        remedies += [*_change_sites(needs, missing), *_lower_minimums(rules, able)]
        last_resort = Remedy(more_sites=missing)
    else:
        weaker = tuple(site for site in unable if site in reach)
        needs = [need for need in needs if need.site in weaker]
        remedies = [*_change_sites(needs, len(weaker)), *_lower_cells(rules, len(weaker))]
        last_resort = Remedy(without=weaker)
    return Shortfall(
        matrices=matrices[-1] - matrices[depth],
        able=able,
        needed=needed,
        weaker=len(weaker),
        remedies=tuple(remedies) or (last_resort,),
    )


def describe_shortfall(
    plan: JobPlan, shortfall: Shortfall, sites: int, *, deadline_key: str = "training_deadline_s"
) -> str:
    """Return sentences that say which heads nobody trains, why, and what to change.

    `deadline_key` is where the job file says how long training may take.
    """
    lowest, highest = plan.matrices[0].name, plan.matrices[shortfall.matrices - 1].name
    heads = plan.adapter.heads
    named = lowest if lowest == highest else f"{lowest} to {highest}"
    which = f"{shortfall.matrices * heads} of {len(plan.matrices) * heads} heads, those of {named}"
    if shortfall.weaker:
        why = (
            f"{shortfall.able} of {sites} sites can hold all heads, but the {shortfall.weaker} that cannot are too few"
            f" for a cell of {shortfall.needed}, and all train what these can"
        )
    else:
        why = f"{shortfall.able} of {sites} sites can hold all heads, and {shortfall.needed} are needed"
    ways = "; or ".join(_say(remedy, f"[round] {deadline_key}") for remedy in shortfall.remedies)
    return f"Nobody trains {which}: {why}. To have all trained: {ways}."


def _need_of(site: SiteId, capacity: SiteCapacity, matrices: int, budget: Budget) -> _Need | None:
    """Return what the site lacks; None when its machine has not so much memory."""
    memory = needed_bytes(capacity.job, matrices)
    deadline = needed_deadline_s(capacity.job, matrices, budget.steps)
    limit = capacity.hardware.ram_limit_bytes
    if memory > max(limit, capacity.hardware.ram_total_bytes):
        return None
    short = memory > limit
    return _Need(
        site=site,
        memory_mib=-(-memory // MIB) if short else 0,
        further_mib=-(-(memory - limit) // MIB) if short else 0,
        deadline_s=math.ceil(deadline) if deadline > budget.training_deadline_s else 0,
    )


def _change_sites(needs: Sequence[_Need], missing: int) -> Iterable[Remedy]:
    """Return how `missing` more sites can be made to hold all heads: by memory, by the deadline, or by both."""
    by_memory = [need for need in needs if not need.deadline_s]
    by_time = [need for need in needs if not need.memory_mib]
    ways = [way for way in (by_memory, by_time) if len(way) >= missing]
    if not ways and len(needs) >= missing:
        ways = [list(needs)]
    for way in ways:
        chosen = sorted(way, key=lambda need: (need.further_mib, need.deadline_s, need.site))[:missing]
        yield Remedy(
            memory_mib={need.site: need.memory_mib for need in chosen if need.memory_mib},
            deadline_s=max(need.deadline_s for need in chosen) or None,
        )


def _lower_minimums(rules: CoverageRules, sites: int) -> Iterable[Remedy]:
    """Return which minimums would have to come down for `sites` to be enough."""
    if sites < BUNDLE_FLOOR:
        return
    settings = {"[secure_aggregation] bundle_threshold": sites} if rules.threshold > sites else {}
    if rules.spare and rules.wanted > sites:
        settings["[allocation] spare_sites"] = max(0, sites - rules.threshold)
    yield Remedy(settings=settings | _cell_settings(rules, sites))


def _lower_cells(rules: CoverageRules, sites: int) -> Iterable[Remedy]:
    if sites >= BUNDLE_FLOOR:
        yield Remedy(settings=_cell_settings(rules, sites))


def _cell_settings(rules: CoverageRules, sites: int) -> dict[str, int]:
    if rules.weighting is None:
        return {}
    terms = {"cell_threshold": rules.weighting.cell_threshold, "cell_minimum": rules.weighting.cell_minimum}
    return {f"[secure_aggregation] {key}": sites for key, value in terms.items() if value > sites}


def _say(remedy: Remedy, deadline_key: str) -> str:
    parts = []
    if remedy.memory_mib:
        limits = [f"{site} to {mib:,} MiB" for site, mib in remedy.memory_mib.items()]
        parts.append(f"raise the memory limit of {_list(limits)}")
    changes = dict(remedy.settings)
    if remedy.deadline_s is not None:
        changes[deadline_key] = remedy.deadline_s
    if changes:
        parts.append(f"in a new job set {', '.join(f'{key} = {value}' for key, value in changes.items())}")
    if remedy.more_sites:
        parts.append(f"enrol {remedy.more_sites} more that can hold all heads")
    if remedy.returning:
        parts.append(f"wait for {_list(remedy.returning)} to take part")
    if remedy.without:
        parts.append(f"do without {_list(remedy.without)}")
    return " and ".join(parts)


def _list(names: Sequence[str]) -> str:
    others = len(names) - NAMED_SITES
    return ", ".join(names[:NAMED_SITES]) + (f" and {others} more" if others > 0 else "")
