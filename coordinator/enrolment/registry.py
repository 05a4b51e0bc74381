"""The register of sites: turns tokens into certificates, and knows which certificates are good.

Good are a site's newest certificate and the one that it was renewed from (`coordinator.enrolment.succession`).
The good serial numbers are kept in memory, so that the guard asks no database; whatever is not among them is
refused, also after a restore.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from coordinator.audit.entries import (
    COORDINATOR,
    certificate_renewed,
    site_endorsed,
    site_enrolled,
    site_revoked,
    token_created,
)
from coordinator.audit.log import AuditLog
from coordinator.enrolment.ca import issue_client
from coordinator.enrolment.challenges import Challenges
from coordinator.enrolment.pki import Keys
from coordinator.enrolment.succession import (
    CertificateTerms,
    Issued,
    RenewalOutcome,
    good_until,
    judge_renewal,
    revoked,
    succeed,
)
from coordinator.enrolment.tokens import hash_keys, make_token, redeem_token, used_token
from coordinator.store.base import Store, Transaction
from coordinator.store.records import SiteRecord, TokenRecord
from ravan.clock import Clock
from ravan.errors import ErrorReason, IdentityError, StateError
from ravan.identity.certificates import Caller, Role, load_certificate, serial_text
from ravan.identity.join import CoordinatorAddress, Invitation, encode_invitation
from ravan.identity.keys import public_info, requested_key
from ravan.identity.proof import verify_proof
from ravan.identity.renewal import Renewal, unproven_renewal
from ravan.ids import SiteId

DAY_S: Final = 86_400.0
DEFAULT_TERMS: Final = CertificateTerms(life_s=30 * DAY_S, grace_s=90 * DAY_S)


def _ignore_renewal(outcome: RenewalOutcome) -> None:
    """Take note of nothing."""


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
    """Issue tokens, enrol, renew and revoke sites."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        address: CoordinatorAddress,
        clock: Clock,
        *,
        terms: CertificateTerms = DEFAULT_TERMS,
        on_renewal: Callable[[RenewalOutcome], None] = _ignore_renewal,
    ) -> None:
        self._store = store
        self._keys = keys
        self._address = address
        self._clock = clock
        self._terms = terms
        self._on_renewal = on_renewal
        self._challenges = Challenges()
        self._good_until: dict[str, float] = {}
        # The memory of good certificates follows the store's order, or a replaced one could stay good.
        self._order = asyncio.Lock()

    async def load(self) -> None:
        """Read the good certificates from the store; call it before the ports open."""
        sites = await self._store.transact("load_certificates", lambda transaction: transaction.list_sites())
        self._good_until = {serial: end for site in sites for serial, end in good_until(site).items()}

    def is_revoked(self, caller: Caller) -> bool:
        """Tell whether the guard must refuse this certificate for good."""
        return caller.role is Role.AGENT and caller.serial not in self._good_until

    def is_expired(self, caller: Caller) -> bool:
        """Tell whether a connection has outlived its certificate, which TLS asks at the handshake alone."""
        return caller.role is Role.AGENT and self._clock.now() >= self._good_until.get(caller.serial, math.inf)

    @property
    def good_certificates(self) -> int:
        """How many certificates of sites are good: of each site one, or two for a while."""
        return len(self._good_until)

    def now(self) -> float:
        """Return the time by which certificates are made and judged."""
        return self._clock.now()

    async def create_token(
        self, site: str, *, life_s: int = 0, request_id: str = "", by: str = COORDINATOR
    ) -> tuple[str, float]:
        """Return a join string and the time when it expires; the same request id gets the same ones.

        `by` is the audit log's actor.

        Raises ConfigError for a bad name or life, StateError (ALREADY_EXISTS) for an id of another site's.
        """
        pki = self._keys.current()
        key = pki.manifest_key.private_bytes_raw()
        made, secret = make_token(site, life_s=life_s, now=self._clock.now(), key=key, request_id=request_id)
        record = await self._store.transact("create_token", lambda transaction: self._keep_first(transaction, made, by))
        invitation = Invitation(
            address=self._address,
            ca_certificate=pki.authority.certificate.public_bytes(Encoding.DER),
            manifest_key=pki.manifest_public,
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
            site = self._register(application, token, before)
            transaction.put_token(token)
            transaction.put_site(site)
            self._audit.append(transaction, site_enrolled(site, before, token.token_id))
            return site, before

        async with self._order:
            site, before = await self._store.transact("enrol", work)
            self._remember(before, site)
        return site

    def challenge(self) -> bytes:
        """Return a challenge for a site whose certificate has expired."""
        return self._challenges.make(self._clock.now())

    async def recover(self, renewal: Renewal, proof: bytes) -> SiteRecord:
        """Renew for a caller without a certificate, who proves the site's identity key and answers a challenge.

        Raises IdentityError: SIGNATURE_INVALID, and what `renew` raises.
        """
        try:
            self._challenges.check(renewal.challenge, self._clock.now())
        except IdentityError:
            self._on_renewal(RenewalOutcome.REFUSED)
            raise
        return await self.renew(renewal, proof)

    async def renew(self, renewal: Renewal, proof: bytes) -> SiteRecord:
        """Certify the site's next TLS key; repeating it with the same key gives the same certificate.

        Raises IdentityError: MALFORMED, SIGNATURE_INVALID, IDENTITY_MISMATCH, IDENTITY_REVOKED, IDENTITY_EXPIRED.
        """
        try:
            site, outcome = await self._renew(renewal, proof)
        except IdentityError:
            self._on_renewal(RenewalOutcome.REFUSED)
            raise
        self._on_renewal(outcome)
        return site

    async def _renew(self, renewal: Renewal, proof: bytes) -> tuple[SiteRecord, RenewalOutcome]:
        tls_key, now = requested_key(renewal.tls_csr), self._clock.now()

        def work(transaction: Transaction) -> tuple[SiteRecord, SiteRecord, RenewalOutcome]:
            before = transaction.get_site(renewal.site)
            if before is None:
                raise unproven_renewal(renewal.site)
            renewal.verify(proof, before.identity_key)
            holds_key = _holds_key(before, tls_key)
            outcome = judge_renewal(before, renewal.serial, holds_key=holds_key, now=now, grace_s=self._terms.grace_s)
            if outcome is RenewalOutcome.REPEATED:
                return before, before, outcome
            site = succeed(before, renewal.serial, self._issue(before.name, tls_key))
            transaction.put_site(site)
            self._audit.append(transaction, certificate_renewed(site, renewal.serial))
            return before, site, outcome

        async with self._order:
            if renewal.challenge:
                self._challenges.check(renewal.challenge, now)  # another call may have taken it meanwhile
            before, site, outcome = await self._store.transact("renew_certificate", work)
            if renewal.challenge:
                self._challenges.take(renewal.challenge, now)
            self._remember(before, site)
        return site, outcome

    async def revoke(self, name: SiteId, by: str = COORDINATOR) -> SiteRecord:
        """Refuse the site's certificate from now on; raise StateError (NOT_FOUND) for an unknown site.

        Streams that are open stay so: the caller ends them. `by` is the audit log's actor.
        """

        def work(transaction: Transaction) -> SiteRecord:
            site = _require_site(transaction, name)
            revoked = replace(site, revoked_at=site.revoked_at or self._clock.now())
            transaction.put_site(revoked)
            if site.revoked_at is None:
                self._audit.append(transaction, site_revoked(revoked, by))
            return revoked

        async with self._order:
            site = await self._store.transact("revoke_site", work)
            self._remember(site, site)
        return site

    async def endorse(self, name: SiteId, endorsement: bytes, by: str = COORDINATOR) -> None:
        """Keep an owner's signature under the site's identity, for its members' policies; the last one counts.

        Only agents know whose key it must be by. Raises StateError (NOT_FOUND) for an unknown site.
        """

        def work(transaction: Transaction) -> None:
            transaction.put_site(replace(_require_site(transaction, name), endorsement=endorsement))
            self._audit.append(transaction, site_endorsed(name, endorsement, by))

        await self._store.transact("endorse_site", work)

    @property
    def _audit(self) -> AuditLog:
        return AuditLog(self._keys.current().manifest_key)

    def _keep_first(self, transaction: Transaction, made: TokenRecord, by: str) -> TokenRecord:
        """Return the token that the same request has made before, if it has; else keep this one."""
        first = transaction.get_token(made.token_id)
        if first is None:
            transaction.put_token(made)
            self._audit.append(transaction, token_created(made, by))
            return made
        if first.site != made.site:
            raise StateError(
                f"The request id has made a token for {first.site}.",
                reason=ErrorReason.ALREADY_EXISTS,
                next_step="Make a new random id for each call.",
            )
        return first

    def _register(self, application: Application, token: TokenRecord, before: SiteRecord | None) -> SiteRecord:
        issued = self._issue(token.site, requested_key(application.tls_csr))
        return SiteRecord(
            name=token.site,
            identity_key=application.identity_key,
            certificate_pem=issued.pem,
            certificate_serial=issued.serial,
            certificate_expires_at=issued.expires_at,
            enrolled_at=self._clock.now(),
            last_seen=before.last_seen if before else 0.0,
            # an owner's word is for the identity, which a PC keeps that enrols again in its folder
            endorsement=before.endorsement if before and before.identity_key == application.identity_key else b"",
        )

    def _issue(self, site: SiteId, key: ec.EllipticCurvePublicKey) -> Issued:
        certificate = issue_client(
            self._keys.current().authority,
            key,
            role=Role.AGENT,
            name=site,
            now=self._clock.now(),
            life=timedelta(seconds=self._terms.life_s),
        )
        return Issued(
            pem=certificate.public_bytes(Encoding.PEM),
            serial=serial_text(certificate),
            expires_at=certificate.not_valid_after_utc.timestamp(),
        )

    def _remember(self, before: SiteRecord | None, site: SiteRecord) -> None:
        """Let the guard know the site's good certificates instead of those of its record before."""
        if before is not None:
            for serial in (before.certificate_serial, before.previous_serial):
                self._good_until.pop(serial, None)
        self._good_until |= good_until(site)


def _holds_key(site: SiteRecord, key: ec.EllipticCurvePublicKey) -> bool:
    return public_info(load_certificate(site.certificate_pem).public_key()) == public_info(key)


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
        raise revoked(site)
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
