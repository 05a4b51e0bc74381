"""Checking an audit log record by record: what was altered, is missing, or stands where it should not. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from coordinator.audit.chain import (
    START,
    AuditRecord,
    Position,
    SignedAs,
    SignedHead,
    follows,
    is_checkpoint_due,
    is_signed,
)

SHOWN: Final = 100
"""Findings that are kept one by one; more are counted."""


class FindingKind(StrEnum):
    """What is wrong at a place."""

    EMPTY = "empty"
    ALTERED = "altered"
    MISSING = "missing"
    CHECKPOINT = "checkpoint"
    SEAL = "seal"
    WITNESS = "witness"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that shows that the log is not what was written."""

    kind: FindingKind
    sequence: int
    """Record that it is about; 0 for the log as a whole."""
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a check came to."""

    records: int
    checkpoints: int
    head: str
    """Of the last record."""
    witnessed: int
    """Heads of witnesses that lie on the chain."""
    findings: Sequence[Finding]
    more_findings: int
    """Beyond those that are listed."""

    @property
    def is_sound(self) -> bool:
        """Tell whether nothing was found."""
        return not self.findings


class Verifier:
    """Take the records in order of their numbers, then give the verdict; remembers one record at a time."""

    def __init__(
        self,
        key: Ed25519PublicKey,
        *,
        seal: SignedHead | None,
        checkpoints: Iterable[SignedHead],
        witnessed: Iterable[Position] = (),
    ) -> None:
        self._key = key
        self._seal = seal
        self._checkpoints: Mapping[object, SignedHead] = {each.sequence: each for each in checkpoints}
        self._unseen = set(self._checkpoints)
        self._witnessed: dict[int, set[str]] = {}
        for position in witnessed:
            self._witnessed.setdefault(position.sequence, set()).add(position.head)
        self._position = START
        self._records = 0
        self._confirmed = 0
        self._findings: list[Finding] = []
        self._more = 0

    def take(self, record: AuditRecord) -> None:
        """Check the next record."""
        self._records += 1
        expected = self._position.sequence + 1
        if record.sequence != expected:
            self._find(FindingKind.MISSING, expected, f"Record {expected} is missing; {record.sequence!r} comes next.")
        elif not follows(record, self._position.head):
            sentence = f"Record {expected} or its head, or the record before, is not what was written."
            self._find(FindingKind.ALTERED, expected, sentence)
        sequence: object = record.sequence
        if not isinstance(sequence, int):
            # It cannot be told what should follow.
            return
        self._position = record.position
        self._check_checkpoint(record)
        self._check_witnesses(record)

    def conclude(self) -> Verdict:
        """Return the verdict once all records were taken."""
        for sequence in sorted(self._unseen, key=repr):
            place = sequence if isinstance(sequence, int) else 0
            self._find(
                FindingKind.CHECKPOINT, place, f"A checkpoint was signed for record {sequence!r}, which is gone."
            )
        for sequence in sorted(self._witnessed):
            sentence = f"A witness saw record {sequence}, which is not there."
            self._find(FindingKind.WITNESS, sequence, sentence)
        self._check_seal()
        return Verdict(
            records=self._records,
            checkpoints=len(self._checkpoints),
            head=self._position.head,
            witnessed=self._confirmed,
            findings=tuple(self._findings),
            more_findings=self._more,
        )

    def _check_checkpoint(self, record: AuditRecord) -> None:
        checkpoint = self._checkpoints.get(record.sequence)
        if checkpoint is None:
            if is_checkpoint_due(record):
                self._find(FindingKind.CHECKPOINT, record.sequence, f"Record {record.sequence} has no checkpoint.")
            return
        self._unseen.discard(record.sequence)
        if not is_signed(checkpoint, SignedAs.CHECKPOINT, self._key):
            sentence = f"The checkpoint at record {record.sequence} is not signed with this coordinator's key."
            self._find(FindingKind.CHECKPOINT, record.sequence, sentence)
        elif checkpoint.head != record.head:
            sentence = f"The chain at record {record.sequence} is not the one that was signed there."
            self._find(FindingKind.CHECKPOINT, record.sequence, sentence)

    def _check_witnesses(self, record: AuditRecord) -> None:
        for head in sorted(self._witnessed.pop(record.sequence, ())):
            if head == record.head:
                self._confirmed += 1
            else:
                sentence = f"A witness saw another chain at record {record.sequence}: {head}."
                self._find(FindingKind.WITNESS, record.sequence, sentence)

    def _check_seal(self) -> None:
        seal, last = self._seal, self._position
        if seal is None:
            if self._records:
                self._find(FindingKind.SEAL, 0, "The seal is missing: nobody vouches for the log's end.")
            else:
                sentence = "There is no record: the coordinator was not started yet, or the log was deleted."
                self._find(FindingKind.EMPTY, 0, sentence)
        elif not is_signed(seal, SignedAs.SEAL, self._key):
            self._find(FindingKind.SEAL, 0, "The seal is not signed with this coordinator's key.")
        elif seal.sequence != last.sequence:
            sentence = f"The log ends at record {last.sequence}, and was sealed at record {seal.sequence}."
            self._find(FindingKind.SEAL, 0, sentence)
        elif seal.head != last.head:
            self._find(FindingKind.SEAL, last.sequence, f"Record {last.sequence} is not the one that was sealed.")

    def _find(self, kind: FindingKind, sequence: int, sentence: str) -> None:
        if len(self._findings) < SHOWN:
            self._findings.append(Finding(kind=kind, sequence=sequence, sentence=sentence))
        else:
            self._more += 1
