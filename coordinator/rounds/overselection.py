"""How many sites are asked so that enough of them finish, and which. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from coordinator.allocation.coverage import CoverageRules, count_holders
from coordinator.store.records import RoundRecord
from ravan.ids import SiteId
from ravan.manifest.assignment import MAX_MEMBERS
from ravan.manifest.phases import RoundOutcome

WINDOW: Final = 10
"""Rounds that drop-out is observed over."""

PRIOR_RATE: Final = 0.1
"""Drop-out that is expected before anything was observed."""

PRIOR_SITES: Final = 20
"""What that expectation weighs, in sites that were selected once."""

LARGEST_RATE: Final = 0.5
"""Where more than half drop out, something else is wrong, and asking ever more sites does not mend it."""

_TOLD: Final = frozenset({RoundOutcome.COMMITTED, RoundOutcome.REFUSED, RoundOutcome.TOO_FEW_SITES})
"""Rounds that went as far as their sites let them. Those that the coordinator cut short say little of their sites."""


def observe_dropout(rounds: Sequence[RoundRecord]) -> float:
    """Return the part of the selected sites to expect to be lost, above 0 and at most 0.5."""
    told = [record for record in rounds if record.outcome in _TOLD][-WINDOW:]
    selected = sum(len(record.selected) for record in told)
    lost = sum(len({drop.site for drop in record.dropped}.difference(record.completed)) for record in told)
    return min(LARGEST_RATE, (lost + PRIOR_RATE * PRIOR_SITES) / (selected + PRIOR_SITES))


def count_asked(target: int, dropout: float, least: int) -> int:
    """Return how many sites to ask so that `target` finish; never fewer than `least`, 4096 at the most."""
    # 9 / 0.9 is a little more than 10 in floating point.
    return min(MAX_MEMBERS, max(least, math.ceil(round(target / (1 - dropout), 9))))


def choose_members(
    depth_of: Mapping[SiteId, int], rounds: Sequence[RoundRecord], target: int | None, least: int, rules: CoverageRules
) -> tuple[SiteId, ...]:
    """Return who is asked, by name: those that were asked least so far; all, up to 4096, without a `target`.

    Enough are among them to hold the lowest tiles that the whole fleet could train, with the same allowance for
    drop-out, before any others.
    """
    dropout = observe_dropout(rounds)
    size = MAX_MEMBERS if target is None else count_asked(target, dropout, least)
    if len(depth_of) <= size:
        return tuple(sorted(depth_of))
    asked = Counter(site for record in rounds for site in record.selected)
    ranked = sorted(depth_of, key=lambda site: (asked[site], site))
    deep = _find_deep(depth_of, ranked, rules)
    # Holders of the lowest tiles drop out like all others.
    kept = deep[: min(size, count_asked(_wanted(rules), dropout, 0))]
    others = [site for site in ranked if site not in set(kept)]
    return tuple(sorted([*kept, *others[: size - len(kept)]]))


def _find_deep(depth_of: Mapping[SiteId, int], ranked: Sequence[SiteId], rules: CoverageRules) -> list[SiteId]:
    """Return who holds the lowest tile that enough can hold."""
    least = min(_wanted(rules), max(rules.threshold, count_holders(depth_of, 0)))
    depths = sorted(depth_of.values(), reverse=True)
    lowest = depths[least - 1] if len(depths) >= least else 0
    return [site for site in ranked if depth_of[site] >= lowest]


def _wanted(rules: CoverageRules) -> int:
    """Return the sites that a tile should have; in the weighted profile they fill a cell at least."""
    return max(rules.wanted, rules.weighting.cell_minimum if rules.weighting else 0)
