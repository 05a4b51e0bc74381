"""Tell the wrong shares of one secret from the right ones: Shamir's shares are a Reed-Solomon code.

Gao, "A new algorithm for decoding Reed-Solomon codes" (2003). Any m shares of threshold t determine
the secret in spite of (m - t) / 2 wrong ones, whatever those who made them up have agreed on.
Polynomials are lists of coefficients, lowest first, without zeros at the end; zero is the empty list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ravan.secagg.shamir import PRIME, SECRET_BYTES, parse_share

_Polynomial = list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """One secret, and who had it wrong."""

    secret: bytes = field(repr=False)
    wrong: tuple[int, ...]
    """Points whose shares do not belong to it, in the order in which they were given."""


def decode(points: Sequence[int], shares: Sequence[bytes], threshold: int) -> Decoded | None:
    """Return the secret of all shares but at most (m - threshold) / 2 of them, or None when there is none.

    Raise ProtocolError for what is no share.
    """
    values = [parse_share(share) for share in shares]
    polynomial = _decode(points, values, threshold)
    if polynomial is None:
        return None
    wrong = tuple(x for x, value in zip(points, values, strict=True) if _evaluate(polynomial, x) != value)
    secret = _evaluate(polynomial, 0)
    if 2 * len(wrong) > len(points) - threshold or secret >> 8 * SECRET_BYTES:
        return None
    return Decoded(secret=secret.to_bytes(SECRET_BYTES, "big"), wrong=wrong)


def _decode(points: Sequence[int], values: Sequence[int], threshold: int) -> _Polynomial | None:
    """Run Euclid's algorithm half way: what is left is the sharing polynomial times that of the errors."""
    before, now = _vanishing(points), _interpolate(points, values)
    before_factor, factor = list[int](), [1]
    while 2 * (len(now) - 1) >= len(points) + threshold:
        quotient, rest = _divide(before, now)
        before, now = now, rest
        before_factor, factor = factor, _subtract(before_factor, _multiply(quotient, factor))
    polynomial, rest = _divide(now, factor)
    return None if rest or len(polynomial) > threshold else polynomial


def _vanishing(points: Sequence[int]) -> _Polynomial:
    product = [1]
    for x in points:
        product = _multiply(product, [-x % PRIME, 1])
    return product


def _interpolate(points: Sequence[int], values: Sequence[int]) -> _Polynomial:
    """Return the polynomial through all points, by Newton's divided differences."""
    differences = list(values)
    for width in range(1, len(points)):
        for i in range(len(points) - 1, width - 1, -1):
            step = pow(points[i] - points[i - width], -1, PRIME)
            differences[i] = (differences[i] - differences[i - 1]) * step % PRIME
    polynomial = list[int]()
    for x, difference in zip(reversed(points), reversed(differences), strict=True):
        polynomial = _subtract(_multiply(polynomial, [-x % PRIME, 1]), [-difference % PRIME])
    return polynomial


def _evaluate(polynomial: _Polynomial, x: int) -> int:
    value = 0
    for coefficient in reversed(polynomial):
        value = (value * x + coefficient) % PRIME
    return value


def _multiply(left: _Polynomial, right: _Polynomial) -> _Polynomial:
    """Return the product, with zeros at the end where one of the two is zero."""
    product = [0] * (len(left) + len(right) - 1)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            product[i + j] += a * b
    return [coefficient % PRIME for coefficient in product]


def _subtract(left: _Polynomial, right: _Polynomial) -> _Polynomial:
    length = max(len(left), len(right))
    padded = ([*each, *[0] * (length - len(each))] for each in (left, right))
    return _trimmed([(a - b) % PRIME for a, b in zip(*padded, strict=True)])


def _divide(dividend: _Polynomial, divisor: _Polynomial) -> tuple[_Polynomial, _Polynomial]:
    """Return quotient and remainder; the divisor is not zero."""
    rest, inverse = list(dividend), pow(divisor[-1], -1, PRIME)
    quotient = [0] * max(0, len(dividend) - len(divisor) + 1)
    for i in reversed(range(len(quotient))):
        quotient[i] = factor = rest[i + len(divisor) - 1] * inverse % PRIME
        for j, coefficient in enumerate(divisor):
            rest[i + j] = (rest[i + j] - factor * coefficient) % PRIME
    return _trimmed(quotient), _trimmed(rest)


def _trimmed(polynomial: _Polynomial) -> _Polynomial:
    while polynomial and not polynomial[-1]:
        polynomial.pop()
    return polynomial
