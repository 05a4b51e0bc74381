"""Shamir's secret sharing over the prime 2^256 + 297, in plain integers.

Not constant in time: whoever can time this process on the same machine is outside the threat model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from ravan.secagg.refusals import malformed, violation

PRIME: Final = (1 << 256) + 297
"""Smallest prime above 2^256, so that every 32-byte secret is a field element."""

SECRET_BYTES: Final = 32
SHARE_BYTES: Final = 33

_COEFFICIENT_BYTES: Final = 48
"""127 bits beyond the prime's size: the bias of the reduction is below 2^-126."""

Entropy = Callable[[int], bytes]
"""Gives that many unpredictable bytes."""


def point(index: int) -> int:
    """Return where the polynomials are evaluated for member `index`; 0 would be the secret itself."""
    return index + 1


def split(secret: bytes, threshold: int, points: Sequence[int], entropy: Entropy = os.urandom) -> tuple[bytes, ...]:
    """Return one 33-byte share per point (1 and up, distinct); any `threshold` of them give the secret."""
    if len(secret) != SECRET_BYTES:
        raise malformed(f"A secret of {len(secret)} bytes cannot be shared; it must have {SECRET_BYTES}.")
    coefficients = [int.from_bytes(secret, "big"), *_draw(threshold - 1, entropy)]
    coefficients.reverse()
    return tuple(_evaluate(coefficients, x).to_bytes(SHARE_BYTES, "big") for x in points)


def recover(points: tuple[int, ...], shares: Sequence[bytes]) -> bytes:
    """Return the secret from exactly the threshold's number of shares; raise ProtocolError if it is none."""
    value = combine(_row(points, 0), shares)
    if value >> 256:
        raise violation("Revealed shares do not belong to one secret.")
    return value.to_bytes(SECRET_BYTES, "big")


def consistent(points: tuple[int, ...], shares: Sequence[bytes], threshold: int) -> bool:
    """Tell whether all shares, `threshold` of them or more, lie on one polynomial of the sharing's degree.

    One inner product with a random word of the dual code: wrong shares pass with probability 1 / PRIME,
    whatever those who made them up have agreed on.
    """
    return combine(_check_row(points, threshold), shares) == 0


def parse_share(share: bytes) -> int:
    """Read a share; raise ProtocolError for anything that is no field element of 33 bytes."""
    value = int.from_bytes(share, "big")
    if len(share) != SHARE_BYTES or value >= PRIME:
        raise malformed("A share is not an element of the sharing field.")
    return value


def combine(row: Sequence[int], shares: Sequence[bytes]) -> int:
    """Return the inner product of weights and shares in the field."""
    return sum(weight * parse_share(share) for weight, share in zip(row, shares, strict=True)) % PRIME


def _evaluate(descending: Sequence[int], x: int) -> int:
    value = 0
    for coefficient in descending:
        value = (value * x + coefficient) % PRIME
    return value


@lru_cache(maxsize=64)
def _row(points: tuple[int, ...], x: int) -> tuple[int, ...]:
    """Return the Lagrange weights that give the polynomial's value at `x` from its values at `points`."""
    row = []
    for i in points:
        numerator = 1
        for j in points:
            if j != i:
                numerator = numerator * (x - j) % PRIME
        row.append(numerator * _weight(points, i) % PRIME)
    return tuple(row)


@lru_cache(maxsize=64)
def _check_row(points: tuple[int, ...], threshold: int) -> tuple[int, ...]:
    """Return weights under which the values of any polynomial of degree below `threshold` add up to zero.

    They are secret to this process, so that nobody can choose wrong shares that add up to zero as well.
    """
    coefficients = _draw(len(points) - threshold, os.urandom)
    return tuple(_evaluate(coefficients, x) * _weight(points, x) % PRIME for x in points)


def _weight(points: tuple[int, ...], x: int) -> int:
    product = 1
    for other in points:
        if other != x:
            product = product * (x - other) % PRIME
    return pow(product, -1, PRIME)


def _draw(count: int, entropy: Entropy) -> list[int]:
    raw = entropy(_COEFFICIENT_BYTES * count)
    chunks = (raw[i : i + _COEFFICIENT_BYTES] for i in range(0, len(raw), _COEFFICIENT_BYTES))
    return [int.from_bytes(chunk, "big") % PRIME for chunk in chunks]
