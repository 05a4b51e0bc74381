"""Rounds that stand in the records as running while nobody leads them: after a crash, or for want of room. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.store.base import Transaction
from coordinator.store.records import RoundEntry, RoundRecord
from ravan.ids import JobId


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftRound:
    """A round as it was when it was left."""

    record: RoundRecord
    entries: tuple[RoundEntry, ...]


def find_left_round(transaction: Transaction, job_id: JobId) -> LeftRound | None:
    """Return the round that was running. Whatever sites were told and have not read still holds."""
    rounds = transaction.list_rounds(job_id)
    if not rounds or rounds[-1].outcome is not None:
        return None
    entries = transaction.list_round_entries(job_id, rounds[-1].number)
    return LeftRound(record=rounds[-1], entries=tuple(entries))
