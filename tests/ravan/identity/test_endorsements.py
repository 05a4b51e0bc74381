"""An owner's word holds for one name with one key, and for nothing else."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ravan.identity.endorsement import endorse, is_endorsed
from ravan.ids import SiteId

OWNER, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([fill]) * 32) for fill in (1, 2))
OWNER_KEY, OTHER_KEY = (key.public_key().public_bytes_raw() for key in (OWNER, OTHER))
IDENTITY = bytes(range(32))
NORTH = SiteId("north")


def test_an_endorsement_holds_for_its_site() -> None:
    assert is_endorsed(OWNER_KEY, NORTH, IDENTITY, endorse(OWNER, NORTH, IDENTITY))


@pytest.mark.parametrize(
    ("owner_key", "site", "identity", "endorsement"),
    [
        (OWNER_KEY, NORTH, IDENTITY, b""),
        (OWNER_KEY, NORTH, IDENTITY, bytes(64)),
        (OWNER_KEY, NORTH, IDENTITY, endorse(OTHER, NORTH, IDENTITY)),
        (OTHER_KEY, NORTH, IDENTITY, endorse(OWNER, NORTH, IDENTITY)),
        (OWNER_KEY, SiteId("south"), IDENTITY, endorse(OWNER, NORTH, IDENTITY)),
        (OWNER_KEY, NORTH, bytes(32), endorse(OWNER, NORTH, IDENTITY)),
        # length prefixes: a name cannot borrow from the key
        (OWNER_KEY, SiteId("nort"), b"h" + IDENTITY, endorse(OWNER, NORTH, IDENTITY)),
        (OWNER_KEY, NORTH, IDENTITY, OWNER.sign(NORTH.encode() + IDENTITY)),
        (b"short", NORTH, IDENTITY, endorse(OWNER, NORTH, IDENTITY)),
    ],
    ids=[
        "none",
        "zeros",
        "another owner's",
        "for another owner",
        "moved",
        "another key",
        "shifted",
        "unlabelled",
        "key",
    ],
)
def test_everything_else_is_no_endorsement(owner_key: bytes, site: SiteId, identity: bytes, endorsement: bytes) -> None:
    assert not is_endorsed(owner_key, site, identity, endorsement)
