"""The status page for the threads of the HTTP server, with facts from the event loop's objects."""

from __future__ import annotations

from collections.abc import Callable

from coordinator.audit.selection import newest_records
from coordinator.leases.lease import ROUNDS, Lead
from coordinator.status.asking import LoopInquiry
from coordinator.status.facts import StatusFacts
from coordinator.status.gathering import (
    Presence,
    Records,
    gather_deeds,
    gather_events,
    gather_jobs,
    gather_sites,
    jobs_in_full,
)
from coordinator.status.page import render_status
from coordinator.status.words import Language
from coordinator.store.base import Store, Transaction
from ravan.clock import Clock
from ravan.version import VERSION


class StatusReader:
    """Read what the page shows, whoever asks."""

    def __init__(self, store: Store, presence: Callable[[], Presence], clock: Clock) -> None:
        """Build it in the event loop whose objects `presence` reads."""
        self._store = store
        self._presence = presence
        self._clock = clock
        self._inquiry = LoopInquiry()
        self.addresses: tuple[tuple[str, str], ...] = ()
        """What listens where; set when the ports are bound."""

    def render_from_thread(self, language: Language, refreshes: bool) -> str:
        """Return the page; called outside the event loop."""
        return render_status(self._inquiry.ask(self.read, self._unknown), language, refreshes=refreshes)

    async def read(self) -> StatusFacts:
        """Return what the page shows."""
        records = await self._store.transact("read_status", _read_records)
        presence = self._presence()
        return StatusFacts(
            version=VERSION,
            now=presence.now,
            addresses=self.addresses,
            jobs=gather_jobs(records),
            sites=gather_sites(records, presence),
            events=gather_events(records),
            deeds=gather_deeds(records.log),
        )

    def _unknown(self) -> StatusFacts:
        return StatusFacts(version=VERSION, now=self._clock.now(), addresses=self.addresses, is_known=False)


def _read_records(transaction: Transaction) -> Records:
    jobs = transaction.list_jobs()
    return Records(
        sites=transaction.list_sites(),
        tokens=transaction.list_open_tokens(),
        jobs=jobs,
        rounds={job.job_id: transaction.list_rounds(job.job_id) for job in jobs_in_full(jobs)},
        log=newest_records(transaction),
        lead=Lead(lease=transaction.get_lease(ROUNDS), now=transaction.now()),
    )
