"""Who is still in a round, and since when and why the others are not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ravan.errors import ErrorReason, IdentityError, StateError
from ravan.ids import SiteId
from ravan.manifest.assignment import Assignment
from ravan.manifest.phases import DropReason, RoundPhase


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """Why a member is out."""

    index: int
    phase: RoundPhase
    reason: DropReason


class Attendance:
    """Keep the members of a round and those who left it; who left does not come back."""

    def __init__(self, assignment: Assignment) -> None:
        """Start with everyone."""
        self._sites = tuple(member.site for member in assignment.members)
        self._index = {site: index for index, site in enumerate(self._sites)}
        self._absent: dict[int, Absence] = {}

    @property
    def absences(self) -> tuple[Absence, ...]:
        """Return who left, in the order of leaving."""
        return tuple(self._absent.values())

    @property
    def absent(self) -> frozenset[int]:
        """Return the indices of those who left."""
        return frozenset(self._absent)

    @property
    def present(self) -> tuple[int, ...]:
        """Return the indices of those who did not, ascending."""
        return tuple(i for i in range(len(self._sites)) if i not in self._absent)

    def site(self, index: int) -> SiteId:
        """Return the site of a member."""
        return self._sites[index]

    def sites(self, indices: Iterable[int]) -> tuple[SiteId, ...]:
        """Return the sites of members."""
        return tuple(self._sites[i] for i in indices)

    def find(self, site: SiteId) -> int | None:
        """Return the index of a member that is still in the round, else None."""
        index = self._index.get(site)
        return None if index in self._absent else index

    def require(self, site: SiteId) -> int:
        """Return the index of a member that is still in the round.

        Raise IdentityError (PERMISSION_DENIED) for a site that was not selected and StateError
        (WRONG_STATE) for one that left.
        """
        index = self._index.get(site)
        if index is None:
            raise IdentityError(
                f"Site {site} was not selected for this round.",
                reason=ErrorReason.PERMISSION_DENIED,
                next_step="Wait for the next round's assignment.",
            )
        absence = self._absent.get(index)
        if absence is not None:
            raise StateError(
                f"Site {site} left this round in phase {absence.phase} ({absence.reason}).",
                reason=ErrorReason.WRONG_STATE,
                next_step="Forget this round and wait for the next one's assignment.",
            )
        return index

    def leave(self, index: int, phase: RoundPhase, reason: DropReason) -> None:
        """Note that a member is out."""
        self._absent[index] = Absence(index=index, phase=phase, reason=reason)
