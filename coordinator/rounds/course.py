"""Where a round stands, and the steps from which everything that happens in it is made.

Mutable and pure: the machine decides what to do, the course keeps state, time, attendance and the
effects that are due.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from coordinator.rounds.attendance import Attendance
from coordinator.rounds.effects import Effect, EndRound, PhaseClosed, RecordDrop, SendInstruction, SetDeadline
from coordinator.rounds.states import PHASE_OF, RoundState
from ravan.ids import Digest
from ravan.manifest.assignment import Assignment
from ravan.manifest.documents import SignedDocument
from ravan.manifest.instructions import Instruction, RoundRef, RoundResult
from ravan.manifest.phases import DropReason, RoundOutcome, RoundPhase
from ravan.manifest.roster import Roster
from ravan.secagg.coordinator import CoordinatorRound

NO_DIGEST: Final = Digest(b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSetup:
    """What a round starts from."""

    assignment: Assignment
    document: SignedDocument
    """The signed assignment."""
    digest: Digest
    training_deadline_s: float
    phase_deadline_s: float
    """For each phase after training in which sites answer."""


class RoundCourse:
    """Keep a round's state and change it one step at a time."""

    def __init__(self, setup: RoundSetup) -> None:
        """Plan the round; raise ProtocolError when the assignment breaks a rule of secure aggregation."""
        self.setup = setup
        self.secagg = CoordinatorRound(assignment=setup.assignment, assignment_digest=setup.digest)
        self.attendance = Attendance(setup.assignment)
        self.rosters: tuple[Roster, ...] = ()
        self.roster_digests: dict[int, Digest] = {}
        """Digest of the roster that each finisher stands in."""
        self.survivors: tuple[int, ...] = ()
        self.unmasked = False
        self.state = RoundState.PLANNED
        self.deadline_at: float | None = None
        self.phase_seconds: dict[RoundPhase, float] = {}
        self.outcome: RoundOutcome | None = None
        self.effects: list[Effect] = []
        self.now = 0.0
        self._phase_began = 0.0

    @property
    def phase(self) -> RoundPhase:
        """Return the phase that operators see."""
        return PHASE_OF[self.state]

    def reference(self, index: int) -> RoundRef:
        """Return the round's name as a member knows it."""
        assignment = self.setup.assignment
        return RoundRef(
            run_id=assignment.run_id,
            round_number=assignment.round_number,
            assignment_digest=self.setup.digest,
            roster_digest=self.roster_digests.get(index, NO_DIGEST),
        )

    def begin(self) -> None:
        """Start the clock of the first phase."""
        self._phase_began = self.now

    def enter(self, state: RoundState, deadline_s: float | None = None) -> None:
        """Go to a state; close the phase when it belongs to another."""
        self._leave_phase(PHASE_OF[state])
        self.state = state
        self.deadline_at = None if deadline_s is None else self.now + deadline_s
        self.effects.append(SetDeadline(state=state, after_s=deadline_s))
        for index in self.attendance.absent:
            self.secagg.lost(index)

    def extend(self, until: float) -> None:
        """Let the state's time not be up before this, nor more of it be left than it had in all."""
        training = self.state is RoundState.TRAINING
        whole = self.setup.training_deadline_s if training else self.setup.phase_deadline_s
        # A clock that was set back while the coordinator was down must not make the phase longer.
        kept = until if self.deadline_at is None else min(self.deadline_at, self.now + whole)
        self.deadline_at = max(kept, until)
        self.effects.append(SetDeadline(state=self.state, after_s=self.deadline_at - self.now))

    def drop(self, index: int, reason: DropReason) -> None:
        """Record that a member is out, tell it, and expect nothing more of it."""
        self.attendance.leave(index, self.phase, reason)
        self.secagg.lost(index)
        self.effects.append(RecordDrop(site=self.attendance.site(index), phase=self.phase, reason=reason))
        self.send(index, self._result(RoundOutcome.INTERRUPTED, NO_DIGEST, dropped=True))

    def drop_outsiders(self) -> None:
        """Drop who is present and in no group that goes on."""
        for index in sorted(set(self.attendance.present) - self.secagg.members):
            self.drop(index, DropReason.GROUP)

    def end(self, outcome: RoundOutcome, detail: str = "", *, state_digest: Digest = NO_DIGEST) -> None:
        """End the round and tell everyone who is still in it."""
        self.outcome = outcome
        self.enter(RoundState.ENDED)
        for index in self.attendance.present:
            self.send(index, self._result(outcome, state_digest, dropped=False))
        self.effects.append(EndRound(outcome=outcome, detail=detail))

    def send(self, index: int, instruction: Instruction) -> None:
        """Tell a member what to do."""
        self.effects.append(SendInstruction(site=self.attendance.site(index), instruction=instruction))

    def _leave_phase(self, following: RoundPhase) -> None:
        phase = self.phase
        if phase is following:
            return
        # A clock that is set back must not make a phase shorter than nothing.
        seconds = max(0.0, self.now - self._phase_began)
        self.phase_seconds[phase] = seconds
        self._phase_began = self.now
        sites = len(self.attendance.present)
        self.effects.append(PhaseClosed(phase=phase, ended_at=self.now, seconds=seconds, sites=sites))

    def _result(self, outcome: RoundOutcome, state_digest: Digest, *, dropped: bool) -> RoundResult:
        assignment: Assignment = self.setup.assignment
        return RoundResult(
            run_id=assignment.run_id,
            round_number=assignment.round_number,
            outcome=outcome,
            state_digest=state_digest,
            dropped=dropped,
        )
