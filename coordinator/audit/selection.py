"""The records that somebody asks for, newest last."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from coordinator.audit.chain import AuditKind, AuditRecord
from coordinator.store.base import Transaction

PAGE: Final = 1000
"""Records read at a time."""

_NEWEST: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What to look for; what is empty is not asked for."""

    kinds: frozenset[AuditKind] = frozenset()
    subject: str = ""
    """Site, job or model."""
    actor: str = ""
    """Name of an operator or site, or the beginning of an actor: `operator`, `site:north`."""
    since_ms: int = 0

    def includes(self, record: AuditRecord) -> bool:
        """Tell whether a record is asked for; one whose fields are not what we write is shown rather than left out."""
        return (
            (not self.kinds or record.kind in self.kinds)
            and (not self.subject or self.subject in (record.subject, _name_in(record.facts)))
            and (not self.actor or self.actor in str(record.actor).split(":") or _begins(record.actor, self.actor))
            and not (isinstance(record.at_ms, int) and record.at_ms < self.since_ms)
        )


def select_records(transaction: Transaction, selection: Selection, limit: int, *, after: int) -> list[AuditRecord]:
    """Return the newest `limit` records of a selection behind a number, oldest first."""
    found = (record for record in records_after(transaction, after) if selection.includes(record))
    return list(deque(found, maxlen=limit))


def records_after(transaction: Transaction, sequence: int) -> Iterator[AuditRecord]:
    """Yield the records behind a number, in order, a page of them in memory at a time."""
    while page := transaction.audit_records_after(sequence, PAGE):
        yield from page
        sequence = page[-1].sequence


def _begins(actor: object, wanted: str) -> bool:
    return f"{actor}:".startswith(f"{wanted}:")


def _name_in(facts: object) -> str:
    """Return a job's name, by which people call it, from the text of its facts."""
    _, found, rest = str(facts).partition('"name":"')
    return rest.partition('"')[0] if found else ""


def newest_records(transaction: Transaction) -> list[AuditRecord]:
    """Return the newest records of the log, by number; most are of rounds."""
    seal = transaction.get_audit_seal()
    return [] if seal is None else list(transaction.audit_records_after(seal.sequence - _NEWEST, _NEWEST))
