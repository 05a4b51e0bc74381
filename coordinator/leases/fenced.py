"""A store that writes only while a lease is held: the number is checked in each transaction, by the same commit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from coordinator.leases.lease import Lease, LeaseLost, renew
from coordinator.store.base import Result, Store, Transaction


class Holder(Protocol):
    """Whoever keeps a lease."""

    @property
    def held(self) -> Lease:
        """The lease as it was taken; raise LeaseLost when it is known to be lost."""
        ...

    @property
    def term_s(self) -> float:
        """How long it is held at a time."""
        ...

    def note_lost(self) -> None:
        """Hear that it is lost."""
        ...


class FencedStore:
    """See `coordinator.store.base.Store`; every transaction raises LeaseLost once another has taken the lease."""

    def __init__(self, store: Store, holder: Holder) -> None:
        self._store = store
        self._holder = holder

    async def transact(self, name: str, work: Callable[[Transaction], Result]) -> Result:
        """Run `work` in one transaction together with the check."""
        held, term_s = self._holder.held, self._holder.term_s

        def fenced(transaction: Transaction) -> Result:
            check_fence(transaction, held, term_s)
            return work(transaction)

        try:
            return await self._store.transact(name, fenced)
        except LeaseLost:
            self._holder.note_lost()
            raise

    async def close(self) -> None:
        """Leave the store to whoever opened it."""


def check_fence(transaction: Transaction, held: Lease, term_s: float) -> None:
    """Raise LeaseLost unless the lease is held; a term that has run out begins anew, since nobody has taken it."""
    known, now = transaction.get_lease(held.name), transaction.now()
    renewed = renew(known, held, now, term_s)
    if known is None or not known.is_live(now):
        transaction.put_lease(renewed)
