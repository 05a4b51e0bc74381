"""The certificate's next one, in time: asked for over the old one, or by the identity key once that has expired."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import structlog

from edge_agent.identity.grants import accept_grant, follow_hand_over
from edge_agent.identity.keystore import Identity, make_next_key, save_renewal, save_trust
from edge_agent.identity.recovery import Request, recover
from edge_agent.session.connection import Coordinator
from edge_agent.session.reconnect import Backoff
from ravan.clock import Clock
from ravan.errors import ErrorReason, IdentityError, RavanError
from ravan.identity.certificates import load_certificate, serial_text
from ravan.identity.keys import certificate_request
from ravan.identity.renewal import CertificateGrant, Renewal, renewal_due

log = structlog.stdlib.get_logger(__name__)

LONGEST_SLEEP_S: Final = 3600.0
"""A PC that was asleep, or whose clock was set, looks again after this long."""
SETTLED_S: Final = 3600.0
"""After a renewal: a PC whose clock is weeks ahead would find the new certificate due at once."""
LONGEST_PAUSE_S: Final = 3600.0
"""Between attempts while the coordinator does not renew."""

_FINAL: Final = frozenset({ErrorReason.IDENTITY_REVOKED, ErrorReason.IDENTITY_EXPIRED})


class Renewals:
    """Keep the identity folder's certificate and trust fresh, and the coordinator's channel with them."""

    def __init__(self, folder: Path, coordinator: Coordinator, clock: Clock) -> None:
        self._folder = folder
        self._coordinator = coordinator
        self._clock = clock
        self._order = asyncio.Lock()

    async def run(self) -> None:
        """Renew whenever it is time, for ever; raise IdentityError when the coordinator refuses it for good."""
        backoff, said = Backoff(longest_s=LONGEST_PAUSE_S), ""
        while True:
            left_s = renewal_due(self._coordinator.identity.certificate) - self._clock.now()
            if left_s > 0:
                await asyncio.sleep(min(left_s, LONGEST_SLEEP_S))
                continue
            try:
                await self.renew()
            except RavanError as error:
                if error.reason in _FINAL:
                    raise
                if str(error) != said:
                    log.warning("the certificate is not renewed yet", why=str(error), next_step=error.next_step)
                    said = str(error)
                await asyncio.sleep(backoff.next_pause_s())
            else:
                said = ""
                backoff.succeeded()
                await asyncio.sleep(SETTLED_S)

    async def renew(self) -> None:
        """Fetch the next certificate, write it and move to it; raise RavanError.

        The key stays on disk until there is an answer, so that asking again brings the same certificate.
        """
        async with self._order:
            identity = self._coordinator.identity
            key = await asyncio.to_thread(make_next_key, self._folder)
            grant = await self._ask(identity, certificate_request(key))
            renewed = accept_grant(identity, key, grant)
            await asyncio.to_thread(save_renewal, self._folder, renewed)
            self._coordinator.adopt(renewed)
        days = (renewed.certificate_expires_at - self._clock.now()) / 86_400
        log.info("certificate renewed", good_for_days=round(days, 1))

    async def follow(self, hand_over: str) -> None:
        """Trust the next authority when one that is trusted has named it; raise IdentityError when none has."""
        async with self._order:
            identity = self._coordinator.identity
            followed = follow_hand_over(identity, hand_over)
            if followed is identity:
                return
            await asyncio.to_thread(save_trust, self._folder, followed)
            self._coordinator.adopt(followed)
        log.info("the certificate authority in charge has named its successor, which is trusted from now on")

    async def _ask(self, identity: Identity, tls_csr: bytes) -> CertificateGrant:
        serial = serial_text(load_certificate(identity.certificate))
        if self._clock.now() < identity.certificate_expires_at:
            renewal = Renewal(site=identity.site, serial=serial, tls_csr=tls_csr)
            try:
                return await self._coordinator.renew(tls_csr, renewal.sign(identity.identity_key))
            except RavanError as error:
                if isinstance(error, IdentityError) and error.reason is ErrorReason.IDENTITY_REVOKED:
                    raise
                # Clocks differ: by the coordinator's the certificate may have expired.
                log.debug("not renewed over the old certificate", why=str(error))
        return await recover(identity, Request(serial=serial, tls_csr=tls_csr), self._coordinator.reach)
