"""The transition table of a round: what each state does on each event, and where it may lead.

Data for the machine, the tests and the diagrams. A pair that is not listed is refused, and the
refusal changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

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


class Action(StrEnum):
    """What the machine does on an event."""

    BEGIN = "begin"
    TAKE_MESSAGE = "take message"
    CHECK_HEADER = "check header"
    TAKE_UPLOAD = "take upload"
    DROP_SITE = "drop site"
    NOTE_ABSENCE = "note absence"
    CLOSE_LATE = "close at deadline"
    AWAIT_RETURN = "await return"
    PUBLISH_ROSTERS = "publish rosters"
    COMBINE = "combine"
    COMMIT = "commit"
    GIVE_UP = "give up"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class Transition:
    """One entry of the table."""

    action: Action
    targets: frozenset[RoundState]
    """States in which the round may be afterwards."""


Table = Mapping[tuple[RoundState, type[Event]], Transition]

_S = RoundState
_NEXT: Final = {
    _S.TRAINING: _S.SIGNING,
    _S.SHARING: _S.UPLOADING,
    _S.UPLOADING: _S.CONFIRMING,
    _S.CONFIRMING: _S.REVEALING,
    _S.REVEALING: _S.UNMASKING,
}


def _write_table() -> Table:
    table: dict[tuple[RoundState, type[Event]], Transition] = {}

    def on(state: RoundState, event: type[Event], action: Action, *targets: RoundState) -> None:
        table[state, event] = Transition(action, frozenset(targets))

    on(_S.PLANNED, RoundBegun, Action.BEGIN, _S.TRAINING)
    for state in COLLECTING:
        after = (state, _NEXT[state], _S.ENDED)
        on(state, MessageReceived, Action.TAKE_MESSAGE, *after)
        on(state, UploadAnnounced, Action.CHECK_HEADER, state)
        on(state, UploadArrived, Action.TAKE_UPLOAD, *after)
        on(state, SiteGone, Action.DROP_SITE, *after)
        on(state, DeadlinePassed, Action.CLOSE_LATE, *after)
        on(state, RoundResumed, Action.AWAIT_RETURN, state)
    for state in (_S.SIGNING, _S.UNMASKING, _S.EVALUATING):
        # A message may come again when its acknowledgement was lost; anything new is refused further in.
        on(state, MessageReceived, Action.TAKE_MESSAGE, state)
        on(state, UploadAnnounced, Action.CHECK_HEADER, state)
        on(state, UploadArrived, Action.TAKE_UPLOAD, state)
        on(state, DeadlinePassed, Action.IGNORE, state)
        on(state, RoundResumed, Action.IGNORE, state)
    on(_S.SIGNING, SiteGone, Action.NOTE_ABSENCE, _S.SIGNING)
    on(_S.UNMASKING, SiteGone, Action.IGNORE, _S.UNMASKING)
    on(_S.EVALUATING, SiteGone, Action.IGNORE, _S.EVALUATING)
    on(_S.SIGNING, RostersSigned, Action.PUBLISH_ROSTERS, _S.SHARING, _S.ENDED)
    on(_S.UNMASKING, UnmaskDone, Action.COMBINE, _S.EVALUATING)
    on(_S.EVALUATING, EvaluationDone, Action.COMMIT, _S.ENDED)
    for state in (_S.SIGNING, _S.UNMASKING, _S.EVALUATING):
        on(state, WorkFailed, Action.GIVE_UP, _S.ENDED)
    for state in RoundState:
        if state is not _S.ENDED:
            on(state, StopRequested, Action.GIVE_UP, _S.ENDED)
    on(_S.ENDED, DeadlinePassed, Action.IGNORE, _S.ENDED)
    on(_S.ENDED, SiteGone, Action.IGNORE, _S.ENDED)
    return MappingProxyType(table)


TRANSITIONS: Final[Table] = _write_table()
"""What is legal."""
