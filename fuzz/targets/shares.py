"""What members of a round seal, reveal and advertise to each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fuzz.target import Format, Target, require
from fuzz.values import MANIFEST_KEY, SHARE
from ravan.errors import ErrorReason, ProtocolError
from ravan.identity.keys import raw_public
from ravan.secagg.keys import agree, derive_private_key, is_usable, public_bytes, verify
from ravan.secagg.sealing import open_sealed, seal
from ravan.secagg.shamir import SHARE_BYTES, parse_share, recover, split

_KEY: Final = bytes(range(32))
_SALT: Final = b"salt"
_POINTS: Final = (1, 2, 4)
_SECRET: Final = bytes(range(32))
_PRIVATE: Final = derive_private_key(bytes(32))


def _open(data: bytes) -> None:
    plain = open_sealed(_KEY, _SALT, 0, 1, data, shares=2)
    require(plain == (SHARE, SHARE), "shares that nobody sealed were opened")


def _open_sealed_anew(data: bytes) -> None:
    """Read what a member may seal under the right key: any plain bytes."""
    sealed = seal(_KEY, _SALT, 0, 1, (data,))
    shares = open_sealed(_KEY, _SALT, 0, 1, sealed, shares=2)
    require(b"".join(shares) == data, "opened shares are not the sealed ones")
    for share in shares:
        parse_share(share)


def _recover(data: bytes) -> None:
    shares = [data[begin : begin + SHARE_BYTES] for begin in range(0, SHARE_BYTES * len(_POINTS), SHARE_BYTES)]
    secret = recover(_POINTS, shares)
    require(len(secret) == len(_SECRET), "a secret has another length")


def _agree(data: bytes) -> None:
    require(len(agree(_PRIVATE, data, _SALT)) == 32, "an agreed secret has another length")
    require(is_usable(data), "a key was used that is announced as unusable")


def _verify(data: bytes) -> None:
    verify(data[:32], data[32:96], data[96:], "the test")


def _sealed() -> Iterable[bytes]:
    yield seal(_KEY, _SALT, 0, 1, (SHARE, SHARE))


def _signed() -> Iterable[bytes]:
    yield raw_public(MANIFEST_KEY) + MANIFEST_KEY.sign(b"text") + b"text"


# fixed polynomials: seeds must be the same in every run
def _dealt() -> Iterable[bytes]:
    yield b"".join(split(_SECRET, len(_POINTS), _POINTS, lambda size: bytes(range(size))))


SHARES: Final = Target(
    name="shares",
    formats=(
        Format(name="sealed", read=_open, seeds=_sealed),
        Format(name="sealed anew", read=_open_sealed_anew, seeds=lambda: [SHARE + SHARE]),
        Format(name="revealed", read=_recover, seeds=_dealt),
        Format(name="round key", read=_agree, seeds=lambda: [public_bytes(derive_private_key(_KEY))]),
        Format(name="signature", read=_verify, seeds=_signed),
    ),
    refusals={
        ProtocolError: frozenset({ErrorReason.MALFORMED, ErrorReason.PROTOCOL_VIOLATION, ErrorReason.SIGNATURE_INVALID})
    },
)
