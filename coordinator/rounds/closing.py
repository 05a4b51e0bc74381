"""When a phase of a round closes, and what the next one starts from.

A phase closes as soon as nobody's answer is awaited any more. A round that can no longer get the
answers that its thresholds ask for ends at once; nothing is revealed then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from coordinator.rounds.course import RoundCourse
from coordinator.rounds.effects import RunUnmask, SignRoster
from coordinator.rounds.states import RoundState
from ravan.manifest.instructions import ConfirmSurvivors, MaskAndUpload, Reveal
from ravan.manifest.phases import RoundOutcome
from ravan.secagg.coordinator import CoordinatorRound
from ravan.secagg.coordinator_states import Abort


def advance(course: RoundCourse) -> None:
    """Close the phase when it can be closed; end the round when it cannot go on."""
    close = _CLOSINGS.get(course.state)
    if close is None:
        return
    if course.reachable < course.needed:
        shortage = f"Only {course.reachable} sites can still answer in phase {course.phase}; {course.needed} must."
        course.end(RoundOutcome.TOO_FEW_SITES, shortage)
    elif not course.secagg.missing:
        abort = close(course)
        if abort is not None:
            course.end(RoundOutcome.TOO_FEW_SITES, str(abort))


def _close_training(course: RoundCourse) -> Abort | None:
    _forget_lost_finishers(course)
    roster = course.secagg.close_advertise()
    if isinstance(roster, Abort):
        return roster
    course.roster = roster
    course.enter(RoundState.SIGNING)
    course.effects.append(SignRoster(roster=roster))
    return None


def _forget_lost_finishers(course: RoundCourse) -> None:
    # A lost finisher in the roster would raise the threshold and could never answer; while no keys are agreed it is
    # free to go, so secure aggregation starts afresh with those who are left.
    absent = course.attendance.absent
    if absent.isdisjoint(course.advertisements):
        return
    setup = course.setup
    course.secagg = CoordinatorRound(assignment=setup.assignment, assignment_digest=setup.digest)
    for index, advertisement in course.advertisements.items():
        if index not in absent:
            course.secagg.advertised(index, advertisement)


def _close_sharing(course: RoundCourse) -> Abort | None:
    deliveries = course.secagg.close_sharing()
    if isinstance(deliveries, Abort):
        return deliveries
    course.enter(RoundState.UPLOADING, course.setup.phase_deadline_s)
    for index in course.secagg.missing:
        course.send(index, MaskAndUpload(round=course.reference, delivery=deliveries[index]))
    return None


def _close_uploading(course: RoundCourse) -> Abort | None:
    survivors = course.secagg.close_upload()
    if isinstance(survivors, Abort):
        return survivors
    course.survivor_set = survivors
    course.enter(RoundState.CONFIRMING, course.setup.phase_deadline_s)
    for index in course.secagg.missing:
        course.send(index, ConfirmSurvivors(round=course.reference, survivors=survivors))
    return None


def _close_confirming(course: RoundCourse) -> Abort | None:
    request = course.secagg.close_confirmation()
    if isinstance(request, Abort):
        return request
    course.enter(RoundState.REVEALING, course.setup.phase_deadline_s)
    for index in course.secagg.missing:
        course.send(index, Reveal(round=course.reference, request=request))
    return None


def _close_revealing(course: RoundCourse) -> Abort | None:
    job = course.secagg.close_reveal()
    if isinstance(job, Abort):
        return job
    course.enter(RoundState.UNMASKING)
    course.effects.append(RunUnmask(job=job))
    return None


_CLOSINGS: Final[Mapping[RoundState, Callable[[RoundCourse], Abort | None]]] = {
    RoundState.TRAINING: _close_training,
    RoundState.SHARING: _close_sharing,
    RoundState.UPLOADING: _close_uploading,
    RoundState.CONFIRMING: _close_confirming,
    RoundState.REVEALING: _close_revealing,
}
