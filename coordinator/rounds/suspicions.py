"""Whose sealed shares could not be used, by the word of those who got them. Pure.

Headquarters only routes sealed shares and cannot look into them, so it has no more than the receivers'
word, and a receiver may lie. More of them than may collude do not lie all together.
"""

from __future__ import annotations

from ravan.ids import SiteId
from ravan.manifest.roster import Roster


class Suspicions:
    """Keep who named whom, over all rounds of a job."""

    def __init__(self) -> None:
        self._accusers: dict[SiteId, set[SiteId]] = {}
        self.convicted: set[SiteId] = set()
        """Who was named by more sites than may lie."""

    def accuse(self, accuser: SiteId, suspect: SiteId, *, tolerated: int) -> bool:
        """Take one site's word; return whether it convicts the suspect, whom more than `tolerated` name now."""
        accusers = self._accusers.setdefault(suspect, set())
        accusers.add(accuser)
        if suspect in self.convicted or len(accusers) <= tolerated:
            return False
        self.convicted.add(suspect)
        return True


def find_roster(rosters: tuple[Roster, ...], accuser: int, suspect: int) -> Roster | None:
    """Return the roster in which both stand, so that one got the other's shares; None where there is none."""
    for roster in rosters:
        if accuser != suspect and {accuser, suspect} <= {entry.index for entry in roster.entries}:
            return roster
    return None


def most_liars(roster: Roster) -> int:
    """Return how many members may collude: as many as may be lost, fewer than a third."""
    return len(roster.entries) - roster.threshold
