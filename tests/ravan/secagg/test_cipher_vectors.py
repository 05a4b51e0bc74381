"""Published known answers of the ciphers that suites are made of, of sealing, and of secret sharing."""

from __future__ import annotations

from itertools import combinations

import pytest
import slow_headsum as slow
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES, ChaCha20
from cryptography.hazmat.primitives.ciphers.modes import CTR

from ravan.secagg import shamir

SP800_38A_PLAIN = (
    "6bc1bee22e409f96e93d7e117393172a"
    "ae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52ef"
    "f69f2445df4f9b17ad2b417be66c3710"
)

SP800_38A = [
    pytest.param(
        "2b7e151628aed2a6abf7158809cf4f3c",
        "874d6191b620e3261bef6864990db6ce"
        "9806f66b7970fdff8617187bb9fffdff"
        "5ae4df3edbd5d35e5b4f09020db03eab"
        "1e031dda2fbe03d1792170a0f3009cee",
        id="F.5.1",
    ),
    pytest.param(
        "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
        "601ec313775789a5b7a7f504bbf3d228"
        "f443e3ca4d62b59aca84e990cacaf5c5"
        "2b0930daa23de94ce87017ba2d84988d"
        "dfc9c58db67aada613c2dd08457941a6",
        id="F.5.5",
    ),
]


@pytest.mark.parametrize(("key", "cipher"), SP800_38A)
def test_aes_ctr_sp_800_38a(key: str, cipher: str) -> None:
    plain, start = bytes.fromhex(SP800_38A_PLAIN), bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    assert Cipher(AES(bytes.fromhex(key)), CTR(start)).encryptor().update(plain).hex() == cipher
    stream = slow.ctr_stream(bytes.fromhex(key), int.from_bytes(start, "big"), len(plain))
    assert bytes(a ^ b for a, b in zip(plain, stream, strict=True)).hex() == cipher


def chacha20(nonce: str, plain: bytes) -> str:
    """RFC 8439 starts at block 1; the library takes counter and nonce as one."""
    counter_and_nonce = (1).to_bytes(4, "little") + bytes.fromhex(nonce)
    return Cipher(ChaCha20(bytes(range(32)), counter_and_nonce), None).encryptor().update(plain).hex()


def test_chacha20_rfc_8439_section_2_3_2() -> None:
    assert chacha20("000000090000004a00000000", bytes(64)) == (
        "10f1e7e4d13b5915500fdd1fa32071c4"
        "c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2"
        "b5129cd1de164eb9cbd083e8a2503c4e"
    )


def test_chacha20_rfc_8439_section_2_4_2() -> None:
    plain = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    assert chacha20("000000000000004a00000000", plain) == (
        "6e2e359a2568f98041ba0728dd0d6981"
        "e97e7aec1d4360c20a27afccfd9fae0b"
        "f91b65c5524733ab8f593dabcd62b357"
        "1639d624e65152ab8f530c359f0861d8"
        "07ca0dbf500d6a6156a38e088a22b65e"
        "52bc514d16ccf806818ce91ab7793736"
        "5af90bbf74a35be6b40b8eedf2785e42"
        "874d"
    )


@pytest.mark.parametrize(
    ("plain", "sealed"),
    [
        pytest.param(b"", "530f8afbc74536b9a963b4f1c4cb738b", id="test case 13"),
        pytest.param(
            bytes(16), "cea7403d4d606b6e074ec5d3baf39d18" + "d0d1c8a799996bf0265b98b5d48ab919", id="test case 14"
        ),
    ],
)
def test_aes_256_gcm_of_the_gcm_specification(plain: bytes, sealed: str) -> None:
    assert AESGCM(bytes(32)).encrypt(bytes(12), plain, None).hex() == sealed
    assert slow.gcm_seal(bytes(32), bytes(12), plain, b"").hex() == sealed


GOOGLE_SHARES = (
    (112, 207, 118, 46, 110, 212, 170, 28),
    (48, 160, 197, 172, 38, 235, 145, 204),
    (63, 115, 238, 144, 40, 68, 183, 71),
    (29, 72, 240, 207, 114, 224, 26, 141),
    (74, 31, 204, 116, 6, 189, 187, 136),
)
"""Of the secret 33 with threshold 3, two elements to a share (google-parfait/federated-compute, its secagg tests)."""


@pytest.mark.parametrize("holders", list(combinations(range(5), 3)))
def test_shamir_shares_of_another_implementation(monkeypatch: pytest.MonkeyPatch, holders: tuple[int, ...]) -> None:
    # Only the field is another one; whatever was computed in ours is not looked up.
    monkeypatch.setattr(shamir, "PRIME", 2**31 + 11)
    monkeypatch.setattr(shamir, "SHARE_BYTES", 4)
    monkeypatch.setattr(slow, "SHAMIR_PRIME", 2**31 + 11)
    points = tuple(shamir.point(holder) for holder in holders)
    row = shamir._row.__wrapped__(points, 0)
    for element, expected in ((slice(0, 4), 0), (slice(4, 8), 33)):
        shares = [bytes(GOOGLE_SHARES[holder])[element] for holder in holders]
        assert shamir.combine(row, shares) == expected
        assert int.from_bytes(slow.shamir_solve(list(points), shares), "big") == expected
