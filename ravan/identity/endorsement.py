"""An owner's word for a site's identity: a signature by a key that never lies at headquarters.

Headquarters issues the certificates and could invent sites. Where the plants' owner has endorsed each PC's
identity, agents that know the owner's key train with no site that the owner has not seen.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ravan.identity.statements import statement
from ravan.ids import SiteId

LABEL: Final = b"ravan/v1/endorsement"
ENDORSEMENT_BYTES: Final = 64
OWNER_KEY_BYTES: Final = 32


def endorse(owner: Ed25519PrivateKey, site: SiteId, identity_key: bytes) -> bytes:
    """Sign that `identity_key` (Ed25519, 32 bytes) is the site's; 64 bytes."""
    return owner.sign(_transcript(site, identity_key))


def is_endorsed(owner_key: bytes, site: SiteId, identity_key: bytes, endorsement: bytes) -> bool:
    """Tell whether the owner with this public key has signed just this name with just this identity key."""
    try:
        Ed25519PublicKey.from_public_bytes(owner_key).verify(endorsement, _transcript(site, identity_key))
    except (ValueError, InvalidSignature):
        return False
    return True


def _transcript(site: SiteId, identity_key: bytes) -> bytes:
    return statement(LABEL, site.encode(), identity_key)
