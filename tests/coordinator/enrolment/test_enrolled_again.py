"""What a site keeps that enrols again: an owner's word, as long as it is the same identity."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from test_registry_order import application, open_registry

from ravan.ids import SiteId

NORTH = SiteId("north")
WORD = b"\x07" * 64


async def test_an_owners_word_stays_with_the_identity_and_goes_with_another(tmp_path: Path) -> None:
    registry, store = open_registry(tmp_path)
    store.answer.set()
    identity = Ed25519PrivateKey.generate()
    first = await registry.enrol(await application(registry, "north", identity))
    assert first.endorsement == b""
    await registry.endorse(NORTH, WORD)
    again = await registry.enrol(await application(registry, "north", identity))
    assert again.certificate_serial != first.certificate_serial
    assert again.endorsement == WORD
    other = await registry.enrol(await application(registry, "north"))
    assert other.endorsement == b""
    await store.close()
