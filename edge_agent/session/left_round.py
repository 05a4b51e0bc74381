"""The round that an earlier process of this site was in and has written down: what comes for it waits for its job."""

from __future__ import annotations

from edge_agent.session.effects import CloseRound, Effect
from edge_agent.session.events import AssignmentReceived, Event, RosterReceived
from ravan.ids import Digest, JobId
from ravan.manifest.assignment import Assignment
from ravan.manifest.instructions import ConfirmSurvivors, MaskAndUpload, Reveal, RoundRef, RoundResult


class LeftRound:
    """Hold its instructions in order until they can be followed; empty where there is no such round."""

    def __init__(self, reference: RoundRef | None) -> None:
        self._reference = reference
        self._assignment: AssignmentReceived | None = None
        self._later: list[Event] = []

    @property
    def held(self) -> Assignment | None:
        """Return the round's assignment once it has come and waits."""
        return self._assignment.assignment if self._assignment is not None else None

    def begins_with(self, assignment_digest: Digest) -> bool:
        """Tell whether this assignment is the round's."""
        return self._reference is not None and self._reference.assignment_digest == assignment_digest

    def ends_with(self, result: RoundResult) -> bool:
        """Tell whether this result is the round's."""
        known = self._reference
        return known is not None and (known.run_id, known.round_number) == (result.run_id, result.round_number)

    def belongs_to(self, job_id: JobId) -> bool:
        """Tell whether what waits is this job's."""
        return self.held is not None and self.held.job_id == job_id

    def hold(self, event: Event) -> bool:
        """Keep the round's assignment, or what follows one that is kept; tell whether it was."""
        if isinstance(event, AssignmentReceived):
            self._assignment, self._later = event, []
            return True
        follows = isinstance(event, RosterReceived | MaskAndUpload | ConfirmSurvivors | Reveal)
        if self._assignment is None or not follows:
            return False
        self._later.append(event)
        return True

    def release(self) -> tuple[Event, ...]:
        """Return what was kept, in order, and keep nothing."""
        kept = () if self._assignment is None else (self._assignment, *self._later)
        self._assignment, self._later = None, []
        return kept

    def take_up(self) -> None:
        """Note that this process is in the round now: it is left no more."""
        self._reference = None

    def drop(self) -> tuple[Effect, ...]:
        """Give the round up: its folder goes."""
        reference, self._reference = self._reference, None
        self.release()
        return (CloseRound(assignment_digest=reference.assignment_digest, outcome=None),) if reference else ()
