"""What sites ask of their own membership: the next certificate, and to go. The register and the fleet do it."""

from __future__ import annotations

from typing import Final

from coordinator.enrolment.pki import Keys
from coordinator.enrolment.registry import Registry
from coordinator.fleet.fleet import Fleet
from coordinator.store.records import SiteRecord
from ravan.identity.certificates import Caller
from ravan.identity.renewal import CertificateGrant, Renewal
from ravan.ids import SiteId

RETURNS_PER_S: Final = 100
"""Sites a second that come back when all have lost their line: each costs a handshake, a greeting and two reports."""


class MembershipDesk:
    """Renew certificates and let sites go."""

    def __init__(self, registry: Registry, fleet: Fleet, keys: Keys) -> None:
        self._registry = registry
        self._fleet = fleet
        self._keys = keys

    def hand_over(self) -> str:
        """Return what every site is told of the next authority; empty when there is none."""
        return self._keys.current().hand_over

    def return_spread_s(self) -> float:
        """Return over how long sites are to spread their return, so that none counts as lost meanwhile."""
        return min(self._registry.good_certificates / RETURNS_PER_S, self._fleet.patience.silence_s * 2 / 3)

    async def renew(self, caller: Caller, tls_csr: bytes, proof: bytes) -> CertificateGrant:
        """Renew the certificate of the connection; raise what `Registry.renew` raises."""
        renewal = Renewal(site=SiteId(caller.name), serial=caller.serial, tls_csr=tls_csr)
        return grant_of(await self._registry.renew(renewal, proof), self._keys)

    async def withdraw(self, site: SiteId, by: str) -> None:
        """Revoke the site at its own wish and end its stream; its round goes on without it. `by` is the actor."""
        await self._registry.revoke(site, by)
        await self._fleet.expel(site)


def grant_of(site: SiteRecord, keys: Keys) -> CertificateGrant:
    """Return the answer to a renewal."""
    pki = keys.current()
    return CertificateGrant(
        certificate_pem=site.certificate_pem, ca_certificates_pem=pki.trusted_by_sites, hand_over=pki.hand_over
    )
