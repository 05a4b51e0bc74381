"""One round from its assignment to its end: a machine that takes events and returns effects, without I/O.

It owns the secure-aggregation machine, the deadlines, who is still in, and how long phases took.
Time comes with the events. What is legal stands in `transitions`; everything else is refused. A
finisher that is lost while the others still train is left out of the roster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from coordinator.rounds.attendance import Absence
from coordinator.rounds.closing import advance
from coordinator.rounds.course import RoundCourse, RoundSetup
from coordinator.rounds.effects import CombineAndEvaluate, Commit, Effect
from coordinator.rounds.events import (
    DeadlinePassed,
    EvaluationDone,
    Event,
    MessageReceived,
    RostersSigned,
    RoundBegun,
    RoundResumed,
    SiteGone,
    StopRequested,
    UnmaskDone,
    UploadAnnounced,
    UploadArrived,
    WorkFailed,
)
from coordinator.rounds.states import COLLECTING, RoundState
from coordinator.rounds.transitions import TRANSITIONS, Action
from ravan.errors import ErrorReason, IdentityError, StateError
from ravan.ids import SiteId
from ravan.manifest.instructions import ExchangeShares, RoundRef, Train
from ravan.manifest.phases import DropReason, RoundOutcome, RoundPhase
from ravan.manifest.roster import Roster, RosterEntry
from ravan.secagg.messages import RevealedShares, SealedShares, SurvivorSignature


class RoundMachine:
    """Lead one round; `handle` returns effects, or raises RavanError and then has changed nothing."""

    def __init__(self, setup: RoundSetup) -> None:
        """Plan the round; raise ProtocolError when the assignment breaks a rule of secure aggregation."""
        self.setup = setup
        self._course = RoundCourse(setup)

    @property
    def state(self) -> RoundState:
        """Return what the round waits for."""
        return self._course.state

    @property
    def phase(self) -> RoundPhase:
        """Return the phase that operators see."""
        return self._course.phase

    @property
    def deadline_at(self) -> float | None:
        """Return when the state's time is up."""
        return self._course.deadline_at

    @property
    def phase_seconds(self) -> Mapping[RoundPhase, float]:
        """Return how long the finished phases took."""
        return self._course.phase_seconds

    @property
    def outcome(self) -> RoundOutcome | None:
        """Return how the round ended, None while it runs."""
        return self._course.outcome

    @property
    def absences(self) -> tuple[Absence, ...]:
        """Return who left the round, in order."""
        return self._course.attendance.absences

    @property
    def awaited(self) -> tuple[SiteId, ...]:
        """Return whose answer the phase waits for."""
        course = self._course
        return course.attendance.sites(course.secagg.missing) if course.state in COLLECTING else ()

    @property
    def completed(self) -> tuple[SiteId, ...]:
        """Return whose update is in the sum; nobody before it is unmasked."""
        course = self._course
        return course.attendance.sites(course.survivors) if course.unmasked else ()

    @property
    def rosters(self) -> tuple[Roster, ...]:
        """Return who masks together, by group, once settled."""
        return self._course.rosters

    def site(self, index: int) -> SiteId:
        """Return the site of a member."""
        return self._course.attendance.site(index)

    def takes_part(self, site: SiteId) -> bool:
        """Tell whether the round runs and the site was selected and has not left."""
        return self.state is not RoundState.ENDED and self._course.attendance.find(site) is not None

    def handle(self, event: Event) -> tuple[Effect, ...]:
        """Take one event; raise StateError (WRONG_STATE) for one that this state does not take."""
        course = self._course
        transition = TRANSITIONS.get((course.state, type(event)))
        if transition is None:
            raise StateError(
                f"A round in state {course.state} does not take {type(event).__name__}.",
                reason=ErrorReason.WRONG_STATE,
                next_step=_BEHIND,
            )
        course.now, course.effects = event.at, []
        _HANDLERS[transition.action](course, event)
        return tuple(course.effects)


_BEHIND: Final = "Drop the message; a site that is behind waits for the next round."


def _begin(course: RoundCourse, _event: RoundBegun) -> None:
    course.begin()
    course.enter(RoundState.TRAINING, course.setup.training_deadline_s)
    for index in course.attendance.present:
        course.send(index, Train(assignment=course.setup.document))


def _take_message(course: RoundCourse, event: MessageReceived) -> None:
    index = course.attendance.require(event.site)
    message = event.message
    _check_reference(course, index, event.reference, has_roster=not isinstance(message, RosterEntry))
    _check_own(event.site, index, event.index)
    awaited = index in course.secagg.missing
    match message:
        case RosterEntry():
            course.secagg.advertised(index, message)
        case SealedShares():
            course.secagg.shares(index, message)
        case SurvivorSignature():
            course.secagg.survivor_signature(index, message)
        case RevealedShares():
            course.secagg.revealed(index, message)
    _go_on(course, index, awaited=awaited)


def _check_header(course: RoundCourse, event: UploadAnnounced | UploadArrived) -> None:
    index = course.attendance.require(event.site)
    _check_reference(course, index, event.reference, has_roster=True)
    _check_own(event.site, index, event.header.index)
    course.secagg.verify_upload(index, event.header)


def _take_upload(course: RoundCourse, event: UploadArrived) -> None:
    _check_header(course, event)
    index = course.attendance.require(event.site)
    awaited = index in course.secagg.missing
    course.secagg.uploaded(index, event.header)
    _go_on(course, index, awaited=awaited)


def _go_on(course: RoundCourse, index: int, *, awaited: bool) -> None:
    # A message that came before is no answer to this phase.
    if awaited and index not in course.secagg.missing:
        advance(course)


def _drop_site(course: RoundCourse, event: SiteGone) -> None:
    _note_absence(course, event)
    advance(course)


def _note_absence(course: RoundCourse, event: SiteGone) -> None:
    index = course.attendance.find(event.site)
    if index is not None:
        course.drop(index, event.reason)


def _close_late(course: RoundCourse, event: DeadlinePassed) -> None:
    if event.state is not course.state:
        return
    for index in course.secagg.missing:
        course.drop(index, DropReason.DEADLINE)
    advance(course)


def _await_return(course: RoundCourse, event: RoundResumed) -> None:
    course.extend(event.until)


def _publish_rosters(course: RoundCourse, event: RostersSigned) -> None:
    course.secagg.rosters_published([digest for _, digest in event.signed])
    document_of = {}
    for roster, (document, digest) in zip(course.rosters, event.signed, strict=True):
        for entry in roster.entries:
            document_of[entry.index] = document
            course.roster_digests[entry.index] = digest
    course.enter(RoundState.SHARING, course.setup.phase_deadline_s)
    for index in course.secagg.missing:
        course.send(index, ExchangeShares(roster=document_of[index]))
    advance(course)


def _combine(course: RoundCourse, event: UnmaskDone) -> None:
    course.unmasked = True
    course.enter(RoundState.EVALUATING)
    course.effects.append(CombineAndEvaluate(summed=event.summed))


def _commit(course: RoundCourse, event: EvaluationDone) -> None:
    if event.refusal:
        course.end(RoundOutcome.REFUSED, event.refusal)
        return
    course.effects.append(Commit(version=event.version))
    course.end(RoundOutcome.COMMITTED, state_digest=event.version.state_digest)


def _give_up(course: RoundCourse, event: WorkFailed | StopRequested) -> None:
    course.end(event.outcome, f"The round was given up in phase {course.phase}.")


def _ignore(_course: RoundCourse, _event: Event) -> None:
    """Leave everything as it is."""


def _check_reference(course: RoundCourse, index: int, reference: RoundRef, *, has_roster: bool) -> None:
    ours = course.reference(index)
    same_round = (reference.run_id, reference.round_number) == (ours.run_id, ours.round_number)
    same_assignment = reference.assignment_digest == ours.assignment_digest
    same_roster = not has_roster or reference.roster_digest == ours.roster_digest
    if not (same_round and same_assignment and same_roster):
        raise StateError(
            "The message names another round, assignment or roster than the one that is running.",
            reason=ErrorReason.WRONG_STATE,
            next_step=_BEHIND,
        )


def _check_own(site: SiteId, index: int, claimed: int) -> None:
    if claimed != index:
        raise IdentityError(
            f"Site {site} is member {index} of this round and spoke as member {claimed}.",
            reason=ErrorReason.PERMISSION_DENIED,
            next_step="Send only messages of the own member index, as in the assignment.",
        )


# The table pairs each action with the events that its handler takes, which the type checker cannot see.
_HANDLERS: Final[Mapping[Action, Callable[[RoundCourse, Any], None]]] = {
    Action.BEGIN: _begin,
    Action.TAKE_MESSAGE: _take_message,
    Action.CHECK_HEADER: _check_header,
    Action.TAKE_UPLOAD: _take_upload,
    Action.DROP_SITE: _drop_site,
    Action.NOTE_ABSENCE: _note_absence,
    Action.CLOSE_LATE: _close_late,
    Action.AWAIT_RETURN: _await_return,
    Action.PUBLISH_ROSTERS: _publish_rosters,
    Action.COMBINE: _combine,
    Action.COMMIT: _commit,
    Action.GIVE_UP: _give_up,
    Action.IGNORE: _ignore,
}
