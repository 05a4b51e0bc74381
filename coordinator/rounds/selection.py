"""Who takes part in a job's next round, or what the job waits for. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from coordinator.allocation.coverage import CoverageRules, settle_depths
from coordinator.allocation.policy import AllocationPolicy, Budget, Shortage, SiteCapacity, find_reach
from coordinator.allocation.ranking import (
    Ranking,
    Tiles,
    choose_tiles,
    rank_at_random,
    rank_by_gradient,
    rank_by_weight,
    rank_from_top,
)
from coordinator.allocation.shortfall import NAMED_SITES, describe_shortfall, find_shortfall
from coordinator.allocation.tiles import form_tiles
from coordinator.fleet.holding import Hold, describe_holds, find_hold
from coordinator.rounds.candidates import Lineup
from coordinator.rounds.deadline import predict_training_s, settle_deadline
from coordinator.rounds.history import count_committed, following_number
from coordinator.rounds.overselection import choose_members
from coordinator.rounds.ports import Job
from coordinator.rounds.resting import Rest, describe_rests
from coordinator.store.records import RoundRecord
from ravan.ids import BlockId, JobId, SiteId
from ravan.manifest.assignment import Suite, Tile
from ravan.manifest.phases import RoundOutcome

NOBODY: Final[Mapping[SiteId, Rest]] = MappingProxyType({})

SETTLE_S: Final = 30.0
"""How long a round waits, once enough sites are ready, for connected ones that still prepare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Who takes part, with which tiles."""

    sites: tuple[SiteId, ...]
    """By name; the position is the member index."""
    tiles: tuple[Tile, ...]
    tiles_of: Mapping[SiteId, Tiles]
    scored_of: Mapping[SiteId, Tiles]
    """Tiles whose heads each site scores: all that it can hold, where the next round is ranked by them."""
    suite: Suite
    """Keystream that all their CPUs are quick at."""
    training_deadline_s: float
    remark: str
    """Which heads nobody trains, why, and what to change; empty when all are trained."""
    rests: Mapping[SiteId, Rest]
    """Connected sites that are left out for a while."""
    holds: Mapping[SiteId, Hold]
    """Connected sites whose agents are too old."""

    @property
    def message(self) -> str:
        """Return all that operators should know of the round's members."""
        parts = (self.remark, describe_rests(self.rests), describe_holds(self.holds))
        return " ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why no round can start."""

    sentence: str


def select(
    job: Job,
    lineup: Lineup,
    fleet: Mapping[SiteId, SiteCapacity],
    rounds: Sequence[RoundRecord],
    norms: Mapping[BlockId, float],
    rests: Mapping[SiteId, Rest] = NOBODY,
    minimum_agent_version: str = "",
) -> Selection | Waiting:
    """Allot tiles to the ready sites from their newest reports.

    `norms` are those of all heads, where the job ranks them by weight. Sites rest only where there are enough others;
    those with too old an agent are held back in any case.
    """
    holds = _find_holds(job, fleet, minimum_agent_version)
    fleet = {site: capacity for site, capacity in fleet.items() if site not in holds}
    holds = {site: hold for site, hold in holds.items() if site in lineup.ready}
    tiles, rules = form_tiles(job.plan), _rules(job)
    ready = {site: fleet[site] for site in lineup.ready if site in fleet}
    needed = job.file.minimum_sites
    reach = find_reach(tiles, {site: ready[site] for site in ready if site not in rests}, _budget(job))
    if len(reach.depth_of) < needed:
        rests, reach = NOBODY, find_reach(tiles, ready, _budget(job))
    if len(reach.depth_of) < needed:
        return Waiting(sentence=say_waiting(lineup, len(reach.depth_of), needed, reach.left_out, holds))
    chosen = choose_members(reach.depth_of, rounds, job.file.round.target_sites, needed, rules)
    depths = settle_depths({site: reach.depth_of[site] for site in chosen}, rules)
    remark = _describe_gap(job, tiles, fleet, (*chosen, *reach.left_out), depths)
    # Where heads are all that trains, a site without one has nothing to do.
    able = chosen if job.plan.dense else tuple(site for site in chosen if depths[site])
    if len(able) < needed:
        return Waiting(sentence=remark or say_waiting(lineup, len(able), needed, reach.left_out, holds))
    scoring = _wants_scores(job, rounds)
    scored_of = {site: tuple(range(depth)) if scoring else () for site, depth in depths.items()}
    tiles_of = choose_tiles(depths, rules, _ranking(job, tiles, rounds, norms), job.file.allocation.share_trained())
    steps = job.plan.training.steps
    predicted = [predict_training_s(tiles, ready[s].job, steps, tiles_of[s], scored_of[s]) for s in able]
    return Selection(
        sites=able,
        tiles=tiles,
        scored_of=scored_of,
        tiles_of=tiles_of,
        training_deadline_s=settle_deadline(job.file.round, predicted),
        suite=job.file.secure_aggregation.suite.choose(
            aes_everywhere=all(fleet[site].hardware.aes_instructions for site in able)
        ),
        remark=remark,
        rests={site: rest for site, rest in rests.items() if site in ready},
        holds=holds,
    )


def find_claim(lineup: Lineup, choose: Callable[[Lineup], Selection | Waiting]) -> tuple[SiteId, ...]:
    """Return the sites that a job would start with if no other job had or wanted any; none where it could not.

    `choose` is what the job would do with a line-up.
    """
    selection = choose(replace(lineup, ready=lineup.measured, busy=(), kept=()))
    return selection.sites if isinstance(selection, Selection) else ()


def say_waiting(
    lineup: Lineup, ready: int, needed: int, left_out: Mapping[SiteId, Shortage], holds: Mapping[SiteId, Hold]
) -> str:
    """Return one sentence that says what the job waits for."""
    parts = [f"Waits for sites: {ready} ready, {needed} needed"]
    if lineup.preparing:
        parts.append(f"{_names(lineup.preparing)} preparing")
    parts += [f"{_names(sites)} in a round of {job}" for job, sites in _by_job(lineup.busy).items()]
    parts += [f"{_names(sites)} kept for {job}, whose turn is before" for job, sites in _by_job(lineup.kept).items()]
    parts += [f"{site} cannot take part ({reason})" for site, reason in lineup.barred]
    parts += [f"{site} is short of {shortage}" for site, shortage in left_out.items()]
    parts += [f"{site} is {hold}" for site, hold in sorted(holds.items())]
    return "; ".join(parts) + "."


def _find_holds(job: Job, fleet: Mapping[SiteId, SiteCapacity], minimum: str) -> dict[SiteId, Hold]:
    least = minimum, job.file.job.minimum_agent_version
    found = ((site, find_hold(capacity.hardware, *least)) for site, capacity in fleet.items())
    return {site: hold for site, hold in found if hold is not None}


def _describe_gap(
    job: Job,
    tiles: Sequence[Tile],
    fleet: Mapping[SiteId, SiteCapacity],
    concerned: Sequence[SiteId],
    depths: Mapping[SiteId, int],
) -> str:
    """Return which heads nobody trains, why, and what to change; empty when all are trained."""
    there = {site: fleet[site] for site in concerned}
    absent = {site: capacity for site, capacity in fleet.items() if site not in there}
    shortfall = find_shortfall(tiles, there, max(depths.values()), _budget(job), _rules(job), absent)
    if shortfall is None:
        return ""
    return describe_shortfall(job.plan, shortfall, len(depths), deadline_key=job.file.round.budget_key)


def _budget(job: Job) -> Budget:
    # Scoring the heads takes about a step.
    scoring = job.file.allocation.policy is AllocationPolicy.GRADIENT
    return Budget(steps=job.plan.training.steps + scoring, training_deadline_s=job.file.round.training_budget_s)


def _rules(job: Job) -> CoverageRules:
    settings = job.file.secure_aggregation
    return CoverageRules(
        threshold=settings.bundle_threshold,
        spare=job.file.allocation.spare_sites,
        weighting=settings.weighting(),
    )


def _wants_scores(job: Job, rounds: Sequence[RoundRecord]) -> bool:
    """Tell whether there will be a round after this one whose heads are ranked by scores."""
    allocation = job.file.allocation
    ranked = allocation.policy is AllocationPolicy.GRADIENT and allocation.share_trained() < 1
    return ranked and count_committed(rounds) + 1 < job.file.job.rounds


def _last_scores(rounds: Sequence[RoundRecord]) -> Mapping[BlockId, float]:
    """Return the scores of the newest round that made a version: what came to nothing changes no ranking."""
    committed = (record for record in reversed(rounds) if record.outcome is RoundOutcome.COMMITTED)
    last = next(committed, None)
    return {} if last is None else last.scores


def _ranking(job: Job, tiles: Sequence[Tile], rounds: Sequence[RoundRecord], norms: Mapping[BlockId, float]) -> Ranking:
    match job.file.allocation.policy:
        case AllocationPolicy.RANDOM:
            return rank_at_random(job.plan.run_id, following_number(rounds))
        case AllocationPolicy.WEIGHT:
            return rank_by_weight(tiles, norms)
        case AllocationPolicy.GRADIENT:
            return rank_by_gradient(tiles, _last_scores(rounds))
        case AllocationPolicy.COVERAGE:
            return rank_from_top


def _by_job(sites: Sequence[tuple[SiteId, JobId]]) -> dict[JobId, list[SiteId]]:
    found: dict[JobId, list[SiteId]] = {}
    for site, job in sites:
        found.setdefault(job, []).append(site)
    return found


def _names(sites: Sequence[SiteId]) -> str:
    others = len(sites) - NAMED_SITES
    return ", ".join(sites[:NAMED_SITES]) + (f" and {others} more" if others > 0 else "")
