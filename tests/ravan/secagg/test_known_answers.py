"""Published known answers: the primitives that we build on, and the slow implementation in the tests."""

from __future__ import annotations

import numpy as np
import pytest
import slow_headsum as slow
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from ravan.errors import ErrorReason, ProtocolError
from ravan.manifest.assignment import Suite
from ravan.secagg.keys import agree, expand, extract, public_bytes, verify
from ravan.secagg.prg import Keystreams, SignedKey, new_buffer

RFC5869 = [
    pytest.param(
        "0b" * 22,
        bytes(range(13)).hex(),
        bytes(range(0xF0, 0xFA)).hex(),
        "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        id="A.1",
    ),
    pytest.param(
        bytes(range(0x50)).hex(),
        bytes(range(0x60, 0xB0)).hex(),
        bytes(range(0xB0, 0x100)).hex(),
        "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
        "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
        id="A.2",
    ),
    pytest.param(
        "0b" * 22,
        "",
        "",
        "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        id="A.3",
    ),
]


@pytest.mark.parametrize(("secret", "salt", "info", "prk", "okm"), RFC5869)
def test_hkdf(secret: str, salt: str, info: str, prk: str, okm: str) -> None:
    secret_, salt_, info_ = (bytes.fromhex(part) for part in (secret, salt, info))
    for extracts, expands in ((extract, expand), (slow.extract, slow.expand)):
        key = extracts(salt_, secret_)
        assert key.hex() == prk
        assert expands(key, info_, len(okm) // 2).hex() == okm


@pytest.mark.parametrize(
    ("scalar", "point", "product"),
    [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ],
    ids=["first", "second"],
)
def test_x25519_rfc_7748_section_5_2(scalar: str, point: str, product: str) -> None:
    own, other, expected = (bytes.fromhex(part) for part in (scalar, point, product))
    assert slow.x25519(own, other) == expected
    assert agree(X25519PrivateKey.from_private_bytes(own), other, b"salt") == slow.extract(b"salt", expected)


def test_x25519_rfc_7748_section_6_1() -> None:
    alice = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    bob = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    alice_public = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    bob_public = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
    shared = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    for own, own_public, other_public in ((alice, alice_public, bob_public), (bob, bob_public, alice_public)):
        key = X25519PrivateKey.from_private_bytes(own)
        assert slow.x25519_public(own) == own_public == public_bytes(key)
        assert slow.x25519(own, other_public) == shared
        assert agree(key, other_public, b"salt") == slow.extract(b"salt", shared)


@pytest.mark.parametrize(
    "point",
    [
        bytes(32),
        (1).to_bytes(32, "little"),
        bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
        (2**255 - 20).to_bytes(32, "little"),
        b"short",
    ],
    ids=["zero", "one", "order 8", "minus one", "not 32 bytes"],
)
def test_low_order_and_malformed_keys_are_refused(point: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        agree(X25519PrivateKey.from_private_bytes(bytes(range(32))), point, b"")
    assert caught.value.reason is ErrorReason.MALFORMED


def test_keystream_starts_as_the_gcm_specification_says() -> None:
    # Test cases 1 and 2 of the GCM specification give E(0, 0) as H and E(0, 1) as the tag of nothing.
    expected = "66e94bd4ef8a2c3b884cfa59ca342b2e" + "58e2fccefa7e3061367f1d57a4e7455a"
    words = np.zeros(8, "<u4")
    Keystreams(Suite.AES_128_CTR, [SignedKey(key=bytes(16), subtract=False)], new_buffer()).apply(words)
    assert words.tobytes().hex() == expected == slow.ctr_stream(bytes(16), 0, 32).hex()


def test_gcm_test_case_2_of_the_slow_implementation() -> None:
    sealed = slow.gcm_seal(bytes(16), bytes(12), bytes(16), b"")
    assert sealed.hex() == "0388dace60b6a392f328c2b971b2fe78" + "ab6e47d42cec13bdf53a67b21257bddf"


RFC8032 = [
    pytest.param(
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
        id="test 1",
    ),
    pytest.param(
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
        id="test 2",
    ),
    pytest.param(
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
        "4a7c15e9716ed28dc027beceea1ec40a",
        id="test 3",
    ),
]


@pytest.mark.parametrize(("public", "message", "signature"), RFC8032)
def test_ed25519_rfc_8032(public: str, message: str, signature: str) -> None:
    key, text, mark = (bytes.fromhex(part) for part in (public, message, signature))
    verify(key, mark, text, "the test")
    for wrong in ((key, mark, text + b"!"), (key, mark[:-1] + b"\xff", text), (key, b"", text), (b"", mark, text)):
        with pytest.raises(ProtocolError, match="the test") as caught:
            verify(*wrong, "the test")
        assert caught.value.reason is ErrorReason.SIGNATURE_INVALID
