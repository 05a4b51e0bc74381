"""The register of sites: turns tokens into certificates, and knows which certificates are good.

A site has one good certificate: the newest. The set of good serial numbers is kept in memory, so
that the guard asks no database; whatever is not in it is refused, also after a restore.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.serialization import Encoding

from coordinator.enrolment.ca import issue_client
from coordinator.enrolment.pki import Pki
from coordinator.enrolment.tokens import hash_keys, make_token, redeem_token, used_token
from coordinator.store.base import Store, Transaction
from coordinator.store.records import SiteRecord, TokenRecord
from ravan.clock import Clock
from ravan.errors import ErrorReason, IdentityError, StateError
from ravan.identity.certificates import Caller, Role, serial_text
from ravan.identity.join import CoordinatorAddress, Invitation, encode_invitation
from ravan.identity.keys import public_info, requested_key
from ravan.identity.proof import verify_proof
from ravan.ids import SiteId


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """What a PC asks to be enrolled with."""

    token_id: str
    token_secret: str = field(repr=False)
    tls_csr: bytes
    """PKCS #10, DER; only its key counts."""
    identity_key: bytes
    """Ed25519, raw, 32 bytes."""
    identity_proof: bytes


class Registry:
    """Issue tokens, enrol and revoke sites."""

    def __init__(self, store: Store, pki: Pki, address: CoordinatorAddress, clock: Clock) -> None:
        self._store = store
        self._pki = pki
        self._address = address
        self._clock = clock
        self._good_serials: set[str] = set()
        # The memory of good certificates follows the store's order, or a replaced one could stay good.
        self._order = asyncio.Lock()

    async def load(self) -> None:
        """Read the good certificates from the store; call it before the ports open."""
        sites = await self._store.transact("load_certificates", lambda transaction: transaction.list_sites())
        self._good_serials = {site.certificate_serial for site in sites if site.revoked_at is None}

    def is_revoked(self, caller: Caller) -> bool:
        """Tell whether the guard must refuse this certificate."""
        return caller.role is Role.AGENT and caller.serial not in self._good_serials

    async def create_token(self, site: str, *, life_s: int = 0) -> tuple[str, float]:
        """Return a join string and the time when it expires; raise ConfigError for a bad name or life."""
        record, secret = make_token(site, life_s=life_s, now=self._clock.now())
        await self._store.transact("create_token", lambda transaction: transaction.put_token(record))
        invitation = Invitation(
            address=self._address,
            ca_certificate=self._pki.authority.certificate.public_bytes(Encoding.DER),
            manifest_key=self._pki.manifest_public,
            token_id=record.token_id,
            token_secret=secret,
        )
        return encode_invitation(invitation), record.expires_at

    async def enrol(self, application: Application) -> SiteRecord:
        """Enrol a PC under the name in its token; repeating it with the same keys gives the same certificate.

        Raises IdentityError: MALFORMED, SIGNATURE_INVALID, TOKEN_*, IDENTITY_MISMATCH, IDENTITY_REVOKED.
        """
        tls_key = requested_key(application.tls_csr)
        verify_proof(
            application.identity_proof,
            identity_key=application.identity_key,
            token_id=application.token_id,
            tls_csr=application.tls_csr,
        )
        keys_hash = hash_keys(public_info(tls_key), application.identity_key)

        def work(transaction: Transaction) -> tuple[SiteRecord, SiteRecord | None]:
            stored = transaction.get_token(application.token_id)
            token = redeem_token(stored, secret=application.token_secret, keys_hash=keys_hash, now=self._clock.now())
            before = transaction.get_site(token.site)
            if stored == token:
                return _repeated(before, token, application.identity_key), before
            _require_unshared(transaction, token.site, application.identity_key)
            site = self._issue(application, token, before)
            transaction.put_token(token)
            transaction.put_site(site)
            return site, before

        async with self._order:
            site, before = await self._store.transact("enrol", work)
            if before is not None:
                self._good_serials.discard(before.certificate_serial)
            self._good_serials.add(site.certificate_serial)
        return site

    async def revoke(self, name: SiteId) -> SiteRecord:
        """Refuse the site's certificate from now on; raise StateError (NOT_FOUND) for an unknown site.

        Streams that are open stay so: the caller ends them.
        """

        def work(transaction: Transaction) -> SiteRecord:
            site = _require_site(transaction, name)
            revoked = replace(site, revoked_at=site.revoked_at or self._clock.now())
            transaction.put_site(revoked)
            return revoked

        async with self._order:
            site = await self._store.transact("revoke_site", work)
            self._good_serials.discard(site.certificate_serial)
        return site

    async def endorse(self, name: SiteId, endorsement: bytes) -> None:
        """Keep an owner's signature under the site's identity, for its members' policies; the last one counts.

        Only agents know whose key it must be by. Raises StateError (NOT_FOUND) for an unknown site.
        """

        def work(transaction: Transaction) -> None:
            transaction.put_site(replace(_require_site(transaction, name), endorsement=endorsement))

        await self._store.transact("endorse_site", work)

    def _issue(self, application: Application, token: TokenRecord, before: SiteRecord | None) -> SiteRecord:
        certificate = issue_client(
            self._pki.authority,
            requested_key(application.tls_csr),
            role=Role.AGENT,
            name=token.site,
            now=self._clock.now(),
        )
        return SiteRecord(
            name=token.site,
            identity_key=application.identity_key,
            certificate_pem=certificate.public_bytes(Encoding.PEM),
            certificate_serial=serial_text(certificate),
            certificate_expires_at=certificate.not_valid_after_utc.timestamp(),
            enrolled_at=self._clock.now(),
            last_seen=before.last_seen if before else 0.0,
        )


def _require_site(transaction: Transaction, name: SiteId) -> SiteRecord:
    site = transaction.get_site(name)
    if site is None:
        raise StateError(
            f"There is no site {name}.",
            reason=ErrorReason.NOT_FOUND,
            next_step="`ravan-coordinator site list` shows all sites.",
        )
    return site


def _repeated(site: SiteRecord | None, token: TokenRecord, identity_key: bytes) -> SiteRecord:
    if site is None or site.identity_key != identity_key:
        raise used_token(token.site)
    if site.revoked_at is not None:
        raise IdentityError(
            f"The certificate of {site.name} was revoked.",
            reason=ErrorReason.IDENTITY_REVOKED,
            next_step=f"Ask HQ for a new join string: `ravan-coordinator token create --site {site.name}`.",
        )
    return site


def _require_unshared(transaction: Transaction, name: SiteId, identity_key: bytes) -> None:
    """Keep one PC from counting as two sites of a cohort."""
    for site in transaction.list_sites():
        if site.identity_key == identity_key and site.name != name:
            raise IdentityError(
                f"This PC's keys already belong to the site {site.name}.",
                reason=ErrorReason.IDENTITY_MISMATCH,
                next_step="Enrol each site into a folder of its own: `ravan-agent enroll JOIN_STRING --dir DIR`.",
            )
