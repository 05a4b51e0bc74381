"""What a PC makes of a new certificate and of a hand-over: checked against what it trusts, before it is kept. Pure."""

from __future__ import annotations

from dataclasses import replace

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from edge_agent.identity.keystore import Identity
from ravan.errors import ErrorReason, IdentityError
from ravan.identity.certificates import Role, is_issued_by, load_certificate, load_certificates, pem_of, read_caller
from ravan.identity.handover import decode_hand_over, verify_hand_over
from ravan.identity.keys import private_pem, public_info
from ravan.identity.renewal import CertificateGrant


def accept_grant(identity: Identity, key: ec.EllipticCurvePrivateKey, grant: CertificateGrant) -> Identity:
    """Return the identity with its next certificate, for this key.

    The coordinator may take authorities from those that the PC trusts, and add one only by a hand-over. Raises
    IdentityError (IDENTITY_MISMATCH) for a certificate of another name, key or authority, and what
    `follow_hand_over` raises.
    """
    if grant.hand_over:
        identity = follow_hand_over(identity, grant.hand_over)
    wanted = set(load_certificates(grant.ca_certificates_pem))
    trusted = [each for each in load_certificates(identity.ca_certificate) if each in wanted]
    certificate = load_certificate(grant.certificate_pem)
    caller = read_caller(grant.certificate_pem)
    if (
        not _is_issued_by_any(certificate, trusted)
        or public_info(certificate.public_key()) != public_info(key.public_key())
        or (caller.role, caller.name) != (Role.AGENT, identity.site)
    ):
        raise IdentityError(
            "The coordinator's answer is no certificate for this PC by an authority that it trusts.",
            reason=ErrorReason.IDENTITY_MISMATCH,
            next_step="Ask HQ whether the coordinator was set up anew. If so: a hand-over or a new join string.",
        )
    return replace(
        identity,
        tls_key=private_pem(key),
        certificate=grant.certificate_pem,
        ca_certificate=pem_of(trusted),
    )


def follow_hand_over(identity: Identity, text: str) -> Identity:
    """Return the identity with the next authority trusted beside those of before, and its manifest key.

    It is the same identity when the authority is trusted already: an old hand-over turns nothing back. Raises
    IdentityError: MALFORMED, IDENTITY_MISMATCH when no trusted authority has signed it, SIGNATURE_INVALID.
    """
    document = decode_hand_over(text)
    trusted = load_certificates(identity.ca_certificate)
    if document.authority in trusted:
        return identity
    authority = verify_hand_over(document, trusted)
    return replace(identity, ca_certificate=pem_of((*trusted, authority)), manifest_key=document.manifest_key)


def _is_issued_by_any(certificate: x509.Certificate, authorities: list[x509.Certificate]) -> bool:
    return any(is_issued_by(certificate, each) for each in authorities)
