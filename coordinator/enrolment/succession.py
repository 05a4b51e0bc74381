"""Which certificate may follow which: the rules of renewal, without clock, database or keys. Pure.

A site has its newest certificate and, until that one expires, the one that it was renewed from. Both are good, so
that work on connections of the older one goes on and an answer that was lost can be asked for again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from coordinator.store.records import SiteRecord
from ravan.errors import ErrorReason, IdentityError


class RenewalOutcome(StrEnum):
    """How a renewal ended; values of the metric's label."""

    RENEWED = "renewed"
    """Over a certificate that still holds."""
    RECOVERED = "recovered"
    """After it had expired, within the grace window."""
    REPEATED = "repeated"
    """Asked again with the older certificate, for the key that was certified last: the answer had been lost."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateTerms:
    """How long sites' certificates live; seconds."""

    life_s: float
    grace_s: float
    """After its end, as long as which a certificate may be renewed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate that was just signed."""

    pem: bytes
    serial: str
    expires_at: float


def judge_renewal(site: SiteRecord, serial: str, *, holds_key: bool, now: float, grace_s: float) -> RenewalOutcome:
    """Tell what to do with a site that asks to renew the certificate `serial`.

    `holds_key` says that the newest certificate is for the key of the request. Raises IdentityError:
    IDENTITY_REVOKED, IDENTITY_MISMATCH for a certificate that the register does not remember, IDENTITY_EXPIRED
    beyond the grace window.
    """
    if site.revoked_at is not None:
        raise revoked(site)
    if not serial or serial not in (site.certificate_serial, site.previous_serial):
        raise _forgotten(site)
    if now >= site.certificate_expires_at + grace_s:
        raise _beyond(site, now)
    if now >= site.certificate_expires_at:
        return RenewalOutcome.RECOVERED
    return RenewalOutcome.REPEATED if holds_key and serial == site.previous_serial else RenewalOutcome.RENEWED


def succeed(site: SiteRecord, serial: str, issued: Issued) -> SiteRecord:
    """Return the record after renewing `serial`; that one stays good beside the new one.

    The site may have asked with the older of its two: the answer with the newer was lost together with its key.
    """
    older = site.previous_expires_at if serial == site.previous_serial else site.certificate_expires_at
    return replace(
        site,
        certificate_pem=issued.pem,
        certificate_serial=issued.serial,
        certificate_expires_at=issued.expires_at,
        previous_serial=serial,
        previous_expires_at=older,
    )


def good_until(site: SiteRecord) -> dict[str, float]:
    """Return the serial numbers that are good for the site, each with its end."""
    if site.revoked_at is not None:
        return {}
    good = {site.certificate_serial: site.certificate_expires_at}
    if site.previous_serial:
        good[site.previous_serial] = site.previous_expires_at
    return good


def revoked(site: SiteRecord) -> IdentityError:
    """Return the refusal of a site whose certificate was revoked."""
    return IdentityError(
        f"The certificate of {site.name} was revoked.",
        reason=ErrorReason.IDENTITY_REVOKED,
        next_step=_ask_for_token(site),
    )


def _forgotten(site: SiteRecord) -> IdentityError:
    return IdentityError(
        f"This is neither the newest certificate of {site.name} nor the one before: the folder is an old copy.",
        reason=ErrorReason.IDENTITY_MISMATCH,
        next_step=f"Use the newest copy of the identity folder. If there is none: {_ask_for_token(site)}",
    )


def _beyond(site: SiteRecord, now: float) -> IdentityError:
    days = (now - site.certificate_expires_at) / 86_400
    return IdentityError(
        f"The certificate of {site.name} expired {days:.0f} days ago, too long to renew it.",
        reason=ErrorReason.IDENTITY_EXPIRED,
        next_step=f"{_ask_for_token(site)} On the PC: `ravan-agent enroll - --dir DIR --replace`.",
    )


def _ask_for_token(site: SiteRecord) -> str:
    return f"Ask HQ for a new join string: `ravan-coordinator token create --site {site.name}`."
