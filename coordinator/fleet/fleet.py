"""The fleet's shell: streams, timers and the store around the presence machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from types import MappingProxyType
from typing import Final

import structlog

from coordinator.fleet.outbox import Outbox
from coordinator.fleet.presence import Patience, Presence
from coordinator.fleet.status import FleetListener, SiteStatus
from coordinator.store.base import Store, Transaction
from ravan.clock import Clock
from ravan.errors import ErrorReason, IdentityError
from ravan.ids import SiteId
from ravan.manifest.instructions import Numbered
from ravan.manifest.liveness import Heartbeat
from ravan.manifest.profile import HardwareProfile

log = structlog.stdlib.get_logger(__name__)

NOBODY: Final[Mapping[SiteId, bytes]] = MappingProxyType({})


class Fleet:
    """Know which sites are connected, tell the listener what changes, and run their streams."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        patience: Patience,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._clock = clock
        self._monotonic = monotonic  # silence is measured on a clock that nobody sets
        self.patience = patience
        self._presence = Presence(patience)
        self._details: dict[SiteId, SiteStatus] = {}
        self._revoked: set[SiteId] = set()
        self._changed = asyncio.Event()
        # arrivals and losses reach the listener in the order in which they happened
        self._order = asyncio.Lock()
        self._timer: asyncio.Task[None] | None = None
        self._closing = False
        self._listener: FleetListener | None = None

    async def start(
        self, listener: FleetListener, expected: Mapping[SiteId, bytes] = NOBODY, within_s: float = 0.0
    ) -> None:
        """Tell `listener` what happens from now on, and watch for silence.

        Sites whose processes are `expected` were there before the coordinator was down; the listener hears of those
        that do not come back within so many seconds.
        """
        self._listener = listener
        for site, process_id in expected.items():
            self._presence.expect(site, process_id, self._monotonic() + within_s)
        self._timer = asyncio.create_task(self._watch_silence(listener), name="fleet-silence")

    async def stop(self) -> None:
        """End all streams in order and stop watching; what was heard last is stored."""
        self._closing = True
        self._outbox.wake_all()
        if self._timer is not None:
            self._timer.cancel()
            await asyncio.gather(self._timer, return_exceptions=True)
        for site in tuple(self._details):
            await self._store_last_seen(site)

    def online(self) -> Mapping[SiteId, SiteStatus]:
        """Return the sites whose stream stands now."""
        return {site: self._details[site] for site in self._presence.connected()}

    async def watch(self, site: SiteId, process_id: bytes, after_sequence: int) -> AsyncGenerator[Numbered | None]:
        """Attach a process and yield None once that is done, then its instructions until the stream shall end.

        Raises IdentityError: IDENTITY_IN_USE at once, IDENTITY_REVOKED when the site is revoked meanwhile.
        """
        stream = await self._attach(site, process_id)

        def is_open() -> bool:
            return not self._closing and self._presence.is_current(site, stream)

        try:
            yield None
            async with aclosing(self._outbox.follow(site, after_sequence, is_open=is_open)) as instructions:
                async for numbered in instructions:
                    yield numbered
                    del numbered  # see `Outbox.follow`
        finally:
            self._detach(site, stream)
        if site in self._revoked:
            raise _revoked(site)

    async def hear(self, site: SiteId, heartbeat: Heartbeat) -> None:
        """Take note of a heartbeat; raise IdentityError (IDENTITY_IN_USE) when another process is connected."""
        self._presence.hear(site, heartbeat.process_id, self._monotonic())
        known = self._details.get(site)
        if known is not None and known.process_id == heartbeat.process_id:
            now = self._clock.now()
            ahead_s = heartbeat.site_time - now if heartbeat.site_time else None
            self._details[site] = replace(known, heartbeat=heartbeat, last_seen=now, clock_ahead_s=ahead_s)
        if self._listener is not None:
            await self._listener.heartbeat(site, heartbeat)

    async def report_hardware(self, site: SiteId, profile: HardwareProfile) -> None:
        """Store a site's machine and pass it on."""

        def work(transaction: Transaction) -> None:
            record = transaction.get_site(site)
            if record is not None:
                transaction.put_site(replace(record, hardware=profile, last_seen=self._clock.now()))

        await self._store.transact("report_hardware", work)
        known = self._details.get(site)
        if known is not None:
            self._details[site] = replace(known, hardware=profile)
        if self._listener is not None:
            await self._listener.hardware_reported(site, profile)

    async def expel(self, site: SiteId) -> None:
        """End the stream of a site whose certificate was revoked."""
        async with self._order:
            self._revoked.add(site)
            self._presence.remove(site)
            self._details.pop(site, None)
            self._outbox.wake(site)
            if self._listener is not None:
                await self._listener.site_lost(site)

    async def _attach(self, site: SiteId, process_id: bytes) -> int:
        async with self._order:
            record = await self._store.transact("attach_site", lambda transaction: transaction.get_site(site))
            stream = self._presence.attach(site, process_id, self._monotonic())
            self._welcome(site, process_id, record.hardware if record is not None else None)
            try:
                if self._listener is not None:
                    await self._listener.site_attached(site, process_id)
            except BaseException:
                self._detach(site, stream)
                raise
        return stream

    def _welcome(self, site: SiteId, process_id: bytes, hardware: HardwareProfile | None) -> None:
        known = self._details.get(site)
        same = known is not None and known.process_id == process_id
        self._details[site] = SiteStatus(
            process_id=process_id,
            last_seen=self._clock.now(),
            hardware=hardware,
            heartbeat=known.heartbeat if known is not None and same else None,
            clock_ahead_s=known.clock_ahead_s if known is not None and same else None,
        )
        self._revoked.discard(site)
        self._outbox.wake(site)  # an older stream of this process sees that it was superseded
        self._changed.set()
        log.info("site attached", site=site, same_process=same)

    def _detach(self, site: SiteId, stream: int) -> None:
        self._presence.detach(site, stream, self._monotonic())
        self._changed.set()

    async def _watch_silence(self, listener: FleetListener) -> None:
        while True:
            self._changed.clear()
            deadline = self._presence.next_deadline()
            delay = None if deadline is None else max(0.0, deadline - self._monotonic())
            try:
                # not `wait_for`: in Python 3.11 it may swallow the cancellation that `stop` sends
                async with asyncio.timeout(delay):
                    await self._changed.wait()
            except TimeoutError:
                await self._report_lost(listener)

    async def _report_lost(self, listener: FleetListener) -> None:
        async with self._order:
            for site in self._presence.take_lost(self._monotonic()):
                log.warning("site lost", site=site)
                self._outbox.wake(site)  # its stream, if it still stands, has to end
                try:
                    await self._store_last_seen(site)
                    await listener.site_lost(site)
                except Exception:
                    log.exception("losing a site failed", site=site)
                self._details.pop(site, None)

    async def _store_last_seen(self, site: SiteId) -> None:
        known = self._details.get(site)
        if known is None:
            return
        last_seen = known.last_seen

        def work(transaction: Transaction) -> None:
            record = transaction.get_site(site)
            if record is not None and record.last_seen < last_seen:
                transaction.put_site(replace(record, last_seen=last_seen))

        await self._store.transact("store_last_seen", work)


def _revoked(site: SiteId) -> IdentityError:
    return IdentityError(
        f"The certificate of {site} was revoked.",
        reason=ErrorReason.IDENTITY_REVOKED,
        next_step=f"Ask HQ for a new join string: `ravan-coordinator token create --site {site}`.",
    )
