"""Certificates for sites on the wire."""

from __future__ import annotations

from ravan.codec import fields
from ravan.identity.handover import LONGEST
from ravan.identity.renewal import CertificateGrant
from ravan.wire.v1 import common_pb2

_PEM_LIMIT = 65_536


def grant_to_wire(value: CertificateGrant) -> common_pb2.CertificateGrant:
    """Convert a grant."""
    return common_pb2.CertificateGrant(
        certificate_pem=value.certificate_pem,
        ca_certificates_pem=value.ca_certificates_pem,
        hand_over=value.hand_over,
    )


def grant_from_wire(wire: common_pb2.CertificateGrant) -> CertificateGrant:
    """Read a grant, whose certificates are looked at by `edge_agent.identity.grants`; raise ProtocolError."""
    for pem, what in ((wire.certificate_pem, "certificate"), (wire.ca_certificates_pem, "list of authorities")):
        fields.ranged(len(pem), 1, _PEM_LIMIT, f"length of the {what}")
    fields.ranged(len(wire.hand_over), 0, LONGEST, "length of the hand-over")
    return CertificateGrant(
        certificate_pem=wire.certificate_pem,
        ca_certificates_pem=wire.ca_certificates_pem,
        hand_over=wire.hand_over,
    )
