"""Why a site has no part in any round that runs: one rule for the page and for the command line. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from coordinator.status.facts import Absence
from ravan.manifest.phases import DropReason, SiteState


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningRound:
    """Who is in a round that has not ended."""

    number: int
    selected: Collection[str]
    drops: Mapping[str, DropReason]


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """What is known of a site beside rounds."""

    name: str
    state: SiteState
    held_back: str = ""
    """Sentence that says why; empty where it is not."""
    resting: str = ""
    """Sentence that says from what; empty where it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsenceReason:
    """Why it has no part, and what there is to add."""

    absence: Absence
    note: str = ""
    drop_reason: DropReason | None = None
    """For `Absence.DROPPED`."""
    rounds: tuple[int, ...] = ()
    """Numbers of those that it left, or was not selected for."""


_AWAY = {
    SiteState.INVITED: Absence.NOT_ENROLLED,
    SiteState.REVOKED: Absence.REVOKED,
    SiteState.OFFLINE: Absence.OFFLINE,
}


def find_absence(site: Whereabouts, running: Sequence[RunningRound]) -> AbsenceReason | None:
    """Return why a site has no part in these rounds; None where it has one, or where it could and none runs."""
    if site.state in _AWAY:
        return AbsenceReason(absence=_AWAY[site.state])
    if site.held_back:
        return AbsenceReason(absence=Absence.HELD_BACK, note=site.held_back)
    if site.resting:
        return AbsenceReason(absence=Absence.RESTING, note=site.resting)
    if not running or any(site.name in each.selected and site.name not in each.drops for each in running):
        return None
    left = [each for each in running if site.name in each.drops]
    if left:
        return AbsenceReason(absence=Absence.DROPPED, drop_reason=left[-1].drops[site.name], rounds=(left[-1].number,))
    return AbsenceReason(absence=Absence.NOT_SELECTED, rounds=tuple(each.number for each in running))
