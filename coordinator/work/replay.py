"""A round's heavy work from what is stored of it alone: any process gets to the same terms as whoever leads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coordinator.rounds.effects import RunUnmask, SignRosters
from coordinator.rounds.events import RostersSigned, UploadArrived
from coordinator.rounds.journal import read_journal
from coordinator.rounds.machine import RoundMachine
from coordinator.rounds.opening import set_up_round
from coordinator.rounds.ports import Job, StagedUploads
from coordinator.rounds.signing import Signatory
from coordinator.store.records import RoundEntry
from ravan.errors import ErrorReason, StateError
from ravan.ids import SiteId
from ravan.secagg.messages import MaskedHeader
from ravan.secagg.unmask import UnmaskJob


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTerms:
    """What unmasking a round needs beside the masked vectors, and where these are."""

    works: Sequence[UnmaskJob]
    """By group."""
    payloads: Mapping[int, Path]
    """By member index, of all survivors."""


def read_terms(job: Job, entries: Sequence[RoundEntry], signatory: Signatory, uploads: StagedUploads) -> RoundTerms:
    """Replay a round to where it is unmasked. Computes for a while; run it in a thread.

    Raise StateError when it is not there yet or over, ProtocolError for entries that are damaged.
    """
    journal = read_journal(entries)
    assignment, digest = signatory.open_assignment(journal.document)
    machine = RoundMachine(set_up_round(job, assignment, journal.document, digest, journal.training_deadline_s))
    headers: dict[int, tuple[SiteId, MaskedHeader]] = {}
    for event in journal.events:
        if isinstance(event, UploadArrived):
            headers[event.header.index] = event.site, event.header
        for effect in machine.handle(event):
            match effect:
                case SignRosters(rosters=rosters):
                    machine.handle(RostersSigned(at=event.at, signed=tuple(map(signatory.sign_roster, rosters))))
                case RunUnmask(jobs=works):
                    survivors = [index for work in works for index in work.survivor_set.survivors]
                    payloads = {
                        index: uploads.path_of(assignment.run_id, assignment.round_number, site, header.sha256)
                        for index, (site, header) in headers.items()
                        if index in survivors
                    }
                    return RoundTerms(works=works, payloads=payloads)
    raise StateError("The round is not to be unmasked yet.", reason=ErrorReason.WRONG_STATE)
