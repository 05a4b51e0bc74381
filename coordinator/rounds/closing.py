"""When a phase of a round closes, and what the next one starts from.

A phase closes as soon as nobody's answer is awaited any more. A group that can no longer get the answers that
its thresholds ask for is given up at once, and its members are told; a round without groups ends, and nothing
of it is revealed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from coordinator.rounds.course import RoundCourse
from coordinator.rounds.effects import RunUnmask, SignRosters
from coordinator.rounds.states import RoundState
from ravan.manifest.instructions import ConfirmSurvivors, MaskAndUpload, Reveal
from ravan.manifest.phases import RoundOutcome
from ravan.secagg.coordinator_states import Abort


def advance(course: RoundCourse) -> None:
    """Close the phase when it can be closed; end the round when it cannot go on."""
    close = _CLOSINGS.get(course.state)
    if close is None:
        return
    abort = course.secagg.give_up_hopeless()
    if abort is None and not course.secagg.missing:
        abort = close(course)
    if abort is not None:
        course.end(RoundOutcome.TOO_FEW_SITES, str(abort))
    else:
        course.drop_outsiders()


def _close_training(course: RoundCourse) -> Abort | None:
    rosters = course.secagg.close_advertise()
    if isinstance(rosters, Abort):
        return rosters
    course.rosters = rosters
    course.drop_outsiders()
    course.enter(RoundState.SIGNING)
    course.effects.append(SignRosters(rosters=rosters))
    return None


def _close_sharing(course: RoundCourse) -> Abort | None:
    deliveries = course.secagg.close_sharing()
    if isinstance(deliveries, Abort):
        return deliveries
    course.drop_outsiders()
    course.enter(RoundState.UPLOADING, course.setup.phase_deadline_s)
    for index in course.secagg.missing:
        course.send(index, MaskAndUpload(round=course.reference(index), delivery=deliveries[index]))
    return None


def _close_uploading(course: RoundCourse) -> Abort | None:
    chosen = course.secagg.close_upload()
    if isinstance(chosen, Abort):
        return chosen
    course.drop_outsiders()
    course.enter(RoundState.CONFIRMING, course.setup.phase_deadline_s)
    for index in course.secagg.missing:
        course.send(index, ConfirmSurvivors(round=course.reference(index), survivors=chosen[index]))
    return None


def _close_confirming(course: RoundCourse) -> Abort | None:
    requests = course.secagg.close_confirmation()
    if isinstance(requests, Abort):
        return requests
    course.drop_outsiders()
    course.enter(RoundState.REVEALING, course.setup.phase_deadline_s)
    for index in course.secagg.missing:
        course.send(index, Reveal(round=course.reference(index), request=requests[index]))
    return None


def _close_revealing(course: RoundCourse) -> Abort | None:
    jobs = course.secagg.close_reveal()
    if isinstance(jobs, Abort):
        return jobs
    course.survivors = tuple(sorted(index for job in jobs for index in job.survivor_set.survivors))
    course.drop_outsiders()
    course.enter(RoundState.UNMASKING)
    course.effects.append(RunUnmask(jobs=jobs))
    return None


_CLOSINGS: Final[Mapping[RoundState, Callable[[RoundCourse], Abort | None]]] = {
    RoundState.TRAINING: _close_training,
    RoundState.SHARING: _close_sharing,
    RoundState.UPLOADING: _close_uploading,
    RoundState.CONFIRMING: _close_confirming,
    RoundState.REVEALING: _close_revealing,
}
