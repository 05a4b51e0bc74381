"""A running round as a list of stored entries, from which a fresh machine gets to where the last one was. Pure.

What follows from other events (signed rosters) or can be done again from what is staged (unmasking, combining,
evaluating) is not kept. An entry is stored in the transaction of the step that it caused, before anyone hears of it,
and all go with the round's end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coordinator.rounds.course import RoundSetup
from coordinator.rounds.events import (
    DeadlinePassed,
    Event,
    MessageReceived,
    RoundBegun,
    RoundResumed,
    SiteGone,
    UploadArrived,
)
from coordinator.rounds.states import RoundState
from coordinator.store.records import EntryKind, RoundEntry
from ravan.codec.instructions import decode_instruction, encode_instruction
from ravan.codec.secagg_messages import Submission, decode_header, decode_submission, encode_header, encode_submission
from ravan.errors import ErrorReason, StateError
from ravan.ids import SiteId
from ravan.manifest.documents import SignedDocument
from ravan.manifest.instructions import Train
from ravan.manifest.phases import DropReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """What a round was and what it heard."""

    document: SignedDocument
    """The assignment."""
    processes: Mapping[SiteId, bytes]
    """The agent process of each member when the round began; another one of the same site is not in the round."""
    training_deadline_s: float | None
    """None where an older release has opened the round, which took it from the job file."""
    events: tuple[Event, ...]


def opening_entries(setup: RoundSetup, processes: Mapping[SiteId, bytes]) -> tuple[RoundEntry, ...]:
    """Return the entries that come before a round's first event."""
    assignment = encode_instruction(Train(assignment=setup.document))
    members = (RoundEntry(kind=EntryKind.MEMBER, site=site, payload=process) for site, process in processes.items())
    return RoundEntry(kind=EntryKind.OPENED, word=repr(setup.training_deadline_s), payload=assignment), *members


def entry_of(event: Event) -> RoundEntry | None:  # noqa: PLR0911 - one line a kind
    """Return what to store of an event; None for one that is not kept."""
    match event:
        case RoundBegun():
            return RoundEntry(kind=EntryKind.BEGUN, at=event.at)
        case MessageReceived():
            submission = Submission(round=event.reference, index=event.index, message=event.message)
            return RoundEntry(
                kind=EntryKind.MESSAGE, at=event.at, site=event.site, payload=encode_submission(submission)
            )
        case UploadArrived():
            header = encode_header(event.reference, event.header)
            return RoundEntry(kind=EntryKind.UPLOAD, at=event.at, site=event.site, payload=header)
        case SiteGone():
            return RoundEntry(kind=EntryKind.GONE, at=event.at, site=event.site, word=event.reason)
        case DeadlinePassed():
            return RoundEntry(kind=EntryKind.DEADLINE, at=event.at, word=event.state)
        case RoundResumed():
            return RoundEntry(kind=EntryKind.RESUMED, at=event.at, word=repr(event.until))
        case _:
            return None


def read_journal(entries: Sequence[RoundEntry]) -> Journal:
    """Put a round's entries together; raise StateError when its opening is missing, ProtocolError for a damaged one."""
    opening = entries[0] if entries else None
    instruction = decode_instruction(opening.payload) if opening and opening.kind is EntryKind.OPENED else None
    if opening is None or not isinstance(instruction, Train):
        raise StateError("The round's opening is not stored.", reason=ErrorReason.WRONG_STATE)
    kept = entries[1:]
    return Journal(
        document=instruction.assignment,
        processes={SiteId(entry.site): entry.payload for entry in kept if entry.kind is EntryKind.MEMBER},
        training_deadline_s=float(opening.word) if opening.word else None,
        events=tuple(_event_of(entry) for entry in kept if entry.kind is not EntryKind.MEMBER),
    )


def _event_of(entry: RoundEntry) -> Event:
    match entry.kind:
        case EntryKind.BEGUN:
            return RoundBegun(at=entry.at)
        case EntryKind.MESSAGE:
            submission = decode_submission(entry.payload)
            return MessageReceived(
                at=entry.at,
                site=SiteId(entry.site),
                reference=submission.round,
                index=submission.index,
                message=submission.message,
            )
        case EntryKind.UPLOAD:
            reference, header = decode_header(entry.payload)
            return UploadArrived(at=entry.at, site=SiteId(entry.site), reference=reference, header=header)
        case EntryKind.GONE:
            return SiteGone(at=entry.at, site=SiteId(entry.site), reason=DropReason(entry.word))
        case EntryKind.DEADLINE:
            return DeadlinePassed(at=entry.at, state=RoundState(entry.word))
        case EntryKind.RESUMED:
            return RoundResumed(at=entry.at, until=float(entry.word))
        case EntryKind.OPENED | EntryKind.MEMBER:
            raise StateError("A round was opened twice.", reason=ErrorReason.WRONG_STATE)
