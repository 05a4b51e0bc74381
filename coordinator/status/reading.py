"""The status page for the threads of the HTTP server, with facts from the event loop's objects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from coordinator.leases.lease import ROUNDS, Lead
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

log = structlog.stdlib.get_logger(__name__)

_PATIENCE_S: Final = 5.0
_LOOKED_AT: Final = 500
"""Newest records of the audit log among which events are looked for; most are of rounds."""


class StatusReader:
    """Read what the page shows, whoever asks."""

    def __init__(self, store: Store, presence: Callable[[], Presence], clock: Clock) -> None:
        """Build it in the event loop whose objects `presence` reads."""
        self._store = store
        self._presence = presence
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self.addresses: tuple[tuple[str, str], ...] = ()
        """What listens where; set when the ports are bound."""

    def render_from_thread(self, language: Language, refreshes: bool) -> str:
        """Return the page; called outside the event loop."""
        return render_status(self._facts_from_thread(), language, refreshes=refreshes)

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
            deeds=gather_deeds(records),
        )

    def _facts_from_thread(self) -> StatusFacts:
        try:
            return asyncio.run_coroutine_threadsafe(self.read(), self._loop).result(_PATIENCE_S)
        except Exception:
            log.warning("the status could not be gathered", exc_info=True)
            return StatusFacts(version=VERSION, now=self._clock.now(), addresses=self.addresses, is_known=False)


def _read_records(transaction: Transaction) -> Records:
    jobs, seal = transaction.list_jobs(), transaction.get_audit_seal()
    return Records(
        sites=transaction.list_sites(),
        tokens=transaction.list_open_tokens(),
        jobs=jobs,
        rounds={job.job_id: transaction.list_rounds(job.job_id) for job in jobs_in_full(jobs)},
        log=[] if seal is None else transaction.audit_records_after(seal.sequence - _LOOKED_AT, _LOOKED_AT),
        lead=Lead(lease=transaction.get_lease(ROUNDS), now=transaction.now()),
    )
