"""What the audit log says of rounds: who was asked for what, whose updates were summed, and what came of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from coordinator.audit.chain import AuditEntry, AuditKind, Fact
from coordinator.audit.entries import COORDINATOR
from coordinator.rounds.effects import Effect, EndRound, SendInstruction
from coordinator.store.records import RoundRecord
from ravan.codec.documents import decode_roster
from ravan.ids import SiteId
from ravan.manifest.documents import DocumentKind, SignedDocument
from ravan.manifest.instructions import ConfirmSurvivors, ExchangeShares, Train
from ravan.manifest.phases import RoundOutcome
from ravan.secagg.transcript import document_digest


def entries_of(effects: Sequence[Effect], record: RoundRecord) -> tuple[AuditEntry, ...]:
    """Return what a step adds to the log; `record` is the round after it."""
    sent = [effect for effect in effects if isinstance(effect, SendInstruction)]
    ended = (round_ended(record),) if any(isinstance(effect, EndRound) for effect in effects) else ()
    return (*_opened(sent, record), *_signed(sent, record), *_chosen(sent, record), *ended)


def round_ended(record: RoundRecord) -> AuditEntry:
    """Record a round's end, with the hashes of its result where there is one."""
    outcome = RoundOutcome.INTERRUPTED if record.outcome is None else record.outcome
    kind = AuditKind.ROUND_COMMITTED if outcome is RoundOutcome.COMMITTED else AuditKind.ROUND_ENDED
    facts: dict[str, Fact] = {
        "outcome": outcome.value,
        "state": record.state_digest.hex(),
        "sums": record.sums_digest.hex(),
        "summed": list(record.completed),
        "dropped": {drop.site: drop.reason.value for drop in record.dropped},
    }
    return _entry(kind, record, facts)


def _opened(sent: Iterable[SendInstruction], record: RoundRecord) -> Iterable[AuditEntry]:
    for document in dict.fromkeys(each.instruction.assignment for each in sent if isinstance(each.instruction, Train)):
        digest = document_digest(DocumentKind.ASSIGNMENT, document.payload)
        yield _entry(AuditKind.ROUND_OPENED, record, {"assignment": digest.hex(), "members": list(record.selected)})


def _signed(sent: Iterable[SendInstruction], record: RoundRecord) -> Iterable[AuditEntry]:
    members: dict[SignedDocument, list[SiteId]] = {}
    for each in sent:
        if isinstance(each.instruction, ExchangeShares):
            members.setdefault(each.instruction.roster, []).append(each.site)
    for document, sites in members.items():
        roster = decode_roster(document.payload)
        facts: dict[str, Fact] = {
            "roster": document_digest(DocumentKind.ROSTER, document.payload).hex(),
            "members": list(sites),
            "threshold": roster.threshold,
            "bundle_thresholds": [bundle.threshold for bundle in roster.bundles],
        }
        yield _entry(AuditKind.ROSTER_SIGNED, record, facts)


def _chosen(sent: Iterable[SendInstruction], record: RoundRecord) -> Iterable[AuditEntry]:
    told: dict[bytes, tuple[ConfirmSurvivors, list[SiteId]]] = {}
    for each in sent:
        if isinstance(each.instruction, ConfirmSurvivors):
            told.setdefault(each.instruction.round.roster_digest, (each.instruction, []))[1].append(each.site)
    for roster, (asked, sites) in told.items():
        facts: dict[str, Fact] = {
            "roster": roster.hex(),
            "survivors": list(sites),
            "survivor_indices": list(asked.survivors.survivors),
            "bundles": list(asked.survivors.bundles),
        }
        yield _entry(AuditKind.SURVIVORS_CHOSEN, record, facts)


def _entry(kind: AuditKind, record: RoundRecord, facts: dict[str, Fact]) -> AuditEntry:
    return AuditEntry(kind=kind, actor=COORDINATOR, subject=record.job_id, facts={"round": record.number, **facts})
