"""Which sites rest from a job's rounds since they failed again and again, and until when. Pure.

All follows from the records of the rounds. A site that rests is asked again by itself: what kept it may be over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from coordinator.rounds.history import following_number
from coordinator.store.records import RoundRecord
from ravan.ids import SiteId
from ravan.manifest.phases import DropReason

OWN_FAULTS: Final = frozenset(
    {
        DropReason.DISCONNECTED,
        DropReason.DEADLINE,
        DropReason.RESTARTED,
        DropReason.DATA,
        DropReason.MEMORY,
        DropReason.DISK,
        DropReason.INTERNAL,
    }
)
"""What lies with the site, its PC or its line. Not so `refused` and `protocol`, which another site can bring about by
showing a new key or dealing bad shares; nor `left` and `group`."""

FAILURES_BEFORE_REST: Final = 3
"""Rounds in a row, of those in which a site was selected, that it may fail before it rests."""

LONGEST_REST: Final = 32
"""Rounds. The first rest is one round long, and each that follows on a further failure twice as long as the last."""

HISTORY: Final = 512
"""Rounds that are looked at; a site that failed in all of them has the longest rest long since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """Why a site rests and until when."""

    until: int
    """Number of the first round in which it is asked again."""
    failures: int
    """Rounds in a row that it failed."""
    reason: DropReason
    """Of the last one."""


def find_rests(rounds: Sequence[RoundRecord]) -> dict[SiteId, Rest]:
    """Return who rests in the round after these, by name."""
    failing: dict[SiteId, Rest] = {}
    for record in rounds[-HISTORY:]:
        completed = frozenset(record.completed)
        lost = {drop.site: drop.reason for drop in record.dropped if drop.site not in completed}
        for site in failing.keys() & set(record.selected) - lost.keys():
            del failing[site]
        for site, reason in lost.items():
            if reason in OWN_FAULTS:
                failing[site] = _count(failing.get(site), record.number, reason)
    following = following_number(rounds)
    return {site: rest for site, rest in sorted(failing.items()) if rest.until > following}


def describe_rests(rests: Mapping[SiteId, Rest]) -> str:
    """Return sentences on who rests; empty where nobody does."""
    return " ".join(
        f"{site} rests until round {rest.until}: it failed {rest.failures} times in a row ({rest.reason})."
        for site, rest in rests.items()
    )


def describe_resting(jobs: Iterable[tuple[str, Mapping[SiteId, Rest]]]) -> dict[SiteId, str]:
    """Return for each site that rests from which jobs, given by name, and until when."""
    parts: dict[SiteId, list[str]] = {}
    for name, rests in jobs:
        for site, rest in rests.items():
            parts.setdefault(site, []).append(f"{name} until round {rest.until}")
    return {site: f"rests from {', '.join(each)}" for site, each in parts.items()}


def _count(before: Rest | None, number: int, reason: DropReason) -> Rest:
    failures = 1 if before is None else before.failures + 1
    further = failures - FAILURES_BEFORE_REST
    length = 0 if further < 0 else min(LONGEST_REST, 2**further)
    return Rest(until=number + 1 + length, failures=failures, reason=reason)
