"""Takes a lease, renews it well before it ends, and says when it is lost."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from typing import Final, Protocol

import structlog

from coordinator.leases.lease import Claim, Lease, LeaseLost, give_back, renew, take
from coordinator.store.base import Store, Transaction
from ravan.errors import ErrorReason, RavanError

log = structlog.stdlib.get_logger(__name__)

TERM_S: Final = 15.0
"""How long a lease is held at a time: as long as the work of a dead process stands still."""

RENEWALS: Final = 3
"""Renewals in a term, so that two may fail."""


def process_name() -> str:
    """Return a name for this process that no other has had: machine, process id and chance."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


class LeaseMetrics(Protocol):
    """Who counts what becomes of leases."""

    def lease_kept(self, lease: Lease) -> None:
        """It was taken or renewed."""
        ...

    def lease_left(self, *, lost: bool) -> None:
        """It was given back, or somebody else has taken it."""
        ...


class LeaseKeeper:
    """Keep one lease; made once for each time that it is wanted."""

    def __init__(self, store: Store, claim: Claim, metrics: LeaseMetrics | None = None) -> None:
        """Keep nothing yet."""
        self._metrics = metrics
        self.lost = asyncio.Event()
        self._store = store
        self._claim = claim
        self._lease: Lease | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def held(self) -> Lease:
        """Return the lease as it was taken or renewed last; raise LeaseLost without one."""
        if self._lease is None or self.lost.is_set():
            raise LeaseLost(
                f"This process does not hold the lease `{self._claim.name}`.",
                reason=ErrorReason.UNREACHABLE,
                next_step="Nothing to do: calls are repeated, and reach the process that holds it.",
            )
        return self._lease

    @property
    def term_s(self) -> float:
        """Return how long it is held at a time."""
        return self._claim.term_s

    async def take(self, *, holder_is_dead: bool = False) -> Lease | None:
        """Take the lease and keep it; return None, or its holder's lease, when somebody has it."""

        def work(transaction: Transaction) -> tuple[Lease | None, Lease | None]:
            known = transaction.get_lease(self._claim.name)
            taken = take(known, self._claim, transaction.now(), holder_is_dead=holder_is_dead)
            if taken is not None:
                transaction.put_lease(taken)
            return taken, known

        taken, known = await self._store.transact("take_lease", work)
        if taken is None:
            return known
        self._note(taken)
        self._task = asyncio.create_task(self._keep(), name=f"lease {taken.name}")
        log.info("lease taken", lease=taken.name, holder=taken.holder, fence=taken.fence)
        return None

    def note_lost(self) -> None:
        """Hear from a transaction that somebody else holds it."""
        if not self.lost.is_set():
            log.error("lease lost", lease=self._claim.name, holder=self._claim.holder)
            self.lost.set()
            if self._metrics is not None:
                self._metrics.lease_left(lost=True)

    async def give_back(self) -> None:
        """Stop keeping it; the next one need not wait for its end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._lease is None or self.lost.is_set():
            return
        held, self._lease = self._lease, None
        if self._metrics is not None:
            self._metrics.lease_left(lost=False)

        def work(transaction: Transaction) -> None:
            known = transaction.get_lease(held.name)
            transaction.put_lease(give_back(known, held, transaction.now()))

        try:
            await self._store.transact("give_lease_back", work)
        except RavanError as error:
            log.warning("the lease was not given back; it ends by itself", lease=held.name, error=str(error))

    async def _keep(self) -> None:
        while not self.lost.is_set():
            await asyncio.sleep(self._claim.term_s / RENEWALS)
            try:
                await self._renew()
            except LeaseLost:
                self.note_lost()
            except RavanError as error:
                # Nobody can write while the database is away; whether the lease is lost it will tell.
                log.warning("the lease could not be renewed", lease=self._claim.name, error=str(error))

    async def _renew(self) -> None:
        held = self.held

        def work(transaction: Transaction) -> Lease:
            renewed = renew(transaction.get_lease(held.name), held, transaction.now(), self._claim.term_s)
            transaction.put_lease(renewed)
            return renewed

        self._note(await self._store.transact("renew_lease", work))

    def _note(self, lease: Lease) -> None:
        self._lease = lease
        if self._metrics is not None:
            self._metrics.lease_kept(lease)
