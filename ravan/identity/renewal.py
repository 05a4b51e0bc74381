"""Renewal of a site's certificate: what the site signs, and when it asks.

A site that asks over its old certificate signs an empty challenge, since the connection is fresh; one whose
certificate has expired signs a challenge of the coordinator's. Neither statement passes for the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519

from ravan.errors import ErrorReason, IdentityError
from ravan.identity.certificates import load_certificate, serial_text
from ravan.identity.statements import sha256, statement
from ravan.ids import SiteId

LABEL: Final = b"ravan/v1/renewal"

EARLIEST: Final = 2 / 3
"""Part of its life after which a certificate is renewed."""
SPREAD: Final = 1 / 12
"""Part of its life over which sites that enrolled together spread their renewals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """What a site asks its next certificate with."""

    site: SiteId
    serial: str
    """Of the certificate that is renewed, lower-case hexadecimal."""
    tls_csr: bytes
    """PKCS #10, DER, for the next key; only its key counts."""
    challenge: bytes = b""
    """The coordinator's, or empty on a connection that the old certificate opened."""

    def _transcript(self) -> bytes:
        return statement(LABEL, self.site.encode(), self.serial.encode(), self.challenge, sha256(self.tls_csr))

    def sign(self, identity: ed25519.Ed25519PrivateKey) -> bytes:
        """Sign with the site's identity key; 64 bytes."""
        return identity.sign(self._transcript())

    def verify(self, proof: bytes, identity_key: bytes) -> None:
        """Check a proof against the raw public key; raise IdentityError (SIGNATURE_INVALID)."""
        try:
            ed25519.Ed25519PublicKey.from_public_bytes(identity_key).verify(proof, self._transcript())
        except (ValueError, InvalidSignature) as error:
            raise unproven_renewal(self.site) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateGrant:
    """What a renewal is answered with."""

    certificate_pem: bytes
    ca_certificates_pem: bytes
    """Authorities that sites are to trust, one after the other."""
    hand_over: str = ""
    """To the next authority; empty when there is none."""


def renewal_due(certificate_pem: bytes) -> float:
    """Return when to renew, seconds since the Unix epoch: between 2/3 and 3/4 of the certificate's life.

    The moment follows from the certificate, so that a restart does not draw another one.
    """
    certificate = load_certificate(certificate_pem)
    return due_within(_begin(certificate), _end(certificate), serial_text(certificate))


def due_within(begins: float, ends: float, serial: str) -> float:
    """Return the moment for a certificate of this life and serial number."""
    drawn = int.from_bytes(sha256(serial.encode())[:4], "big") / 2**32
    return begins + (ends - begins) * (EARLIEST + SPREAD * drawn)


def unproven_renewal(site: SiteId) -> IdentityError:
    """Return the refusal of a site that is not known or does not hold its key: which of them is not said."""
    return IdentityError(
        f"This PC did not prove to be the site {site}.",
        reason=ErrorReason.SIGNATURE_INVALID,
        next_step=f"Ask HQ for a new join string: `ravan-coordinator token create --site {site}`.",
    )


def _begin(certificate: x509.Certificate) -> float:
    return certificate.not_valid_before_utc.timestamp()


def _end(certificate: x509.Certificate) -> float:
    return certificate.not_valid_after_utc.timestamp()
