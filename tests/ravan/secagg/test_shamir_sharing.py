"""Shamir shares: any t give the secret, fewer say nothing, garbage is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import slow_headsum as slow
from hypothesis import given
from hypothesis import strategies as st

from ravan.errors import ErrorReason, ProtocolError
from ravan.secagg.shamir import PRIME, consistent, parse_share, recover, split

SECRETS = st.binary(min_size=32, max_size=32)


def entropy_of(draw_from: bytes) -> Callable[[int], bytes]:
    return lambda size: slow.expand(draw_from, b"coefficients", size) if size else b""


def shifted(share: bytes, delta: int) -> bytes:
    return ((int.from_bytes(share, "big") + delta) % PRIME).to_bytes(33, "big")


def is_prime(n: int) -> bool:
    """Miller and Rabin with 40 bases."""
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in range(2, 42):
        if n % base == 0:
            return n == base
        x = pow(base, odd, n)
        if x not in (1, n - 1) and all((x := x * x % n) != n - 1 for _ in range(twos - 1)):
            return False
    return True


def test_field_is_the_smallest_prime_that_holds_every_secret() -> None:
    assert [n for n in range(2**256, PRIME + 1) if is_prime(n)] == [PRIME]


@st.composite
def dealt(draw: st.DrawFn) -> tuple[bytes, int, tuple[int, ...], tuple[bytes, ...]]:
    holders = draw(st.integers(3, 12))
    threshold = draw(st.integers(1, holders))
    secret = draw(SECRETS)
    shares = split(secret, threshold, range(1, holders + 1), entropy_of(draw(SECRETS)))
    chosen = tuple(draw(st.permutations(range(1, holders + 1)))[:threshold])
    return secret, threshold, chosen, shares


@given(dealt())
def test_any_threshold_of_holders_recovers(case: tuple[bytes, int, tuple[int, ...], tuple[bytes, ...]]) -> None:
    secret, _, chosen, shares = case
    picked = [shares[x - 1] for x in chosen]
    assert recover(chosen, picked) == secret == slow.shamir_solve(list(chosen), picked)


@given(dealt(), st.data())
def test_a_changed_share_is_noticed_wherever_more_than_threshold_answer(
    case: tuple[bytes, int, tuple[int, ...], tuple[bytes, ...]], data: st.DataObject
) -> None:
    _, threshold, _, shares = case
    answers = data.draw(st.integers(threshold, len(shares)))
    points, picked = tuple(range(1, answers + 1)), list(shares[:answers])
    assert consistent(points, picked, threshold)
    victim = data.draw(st.integers(0, answers - 1))
    delta = data.draw(st.integers(1, PRIME - 1))
    picked[victim] = shifted(picked[victim], delta)
    # With the threshold's number of shares there is always a polynomial through them.
    assert consistent(points, picked, threshold) == (answers == threshold)


def test_liars_who_agree_on_one_polynomial_are_noticed_by_a_single_honest_share_more() -> None:
    shares = split(bytes(32), 3, range(1, 6), entropy_of(b"k"))
    other = split(bytes(31) + b"1", 3, range(1, 6), entropy_of(b"other"))
    lies = [*other[:3], shares[3]]
    assert not consistent((1, 2, 3, 4), lies, 3)
    # (x - 4)(x - 5) is of the sharing's degree and zero at two honest points: only the third one shows it.
    moved = [shifted(share, (x - 4) * (x - 5)) for x, share in enumerate(shares, start=1)]
    assert consistent((1, 2, 4, 5), [moved[i - 1] for i in (1, 2, 4, 5)], 3)
    assert not consistent((1, 2, 3, 4, 5), [*moved[:2], *shares[2:]], 3)


@given(SECRETS, SECRETS, st.integers(2, 8))
def test_fewer_than_threshold_fit_every_secret(secret: bytes, other: bytes, threshold: int) -> None:
    shares = split(secret, threshold, range(1, threshold), entropy_of(secret))
    # With the point (0, other) added, the shares still lie on one polynomial of the right degree.
    points = [0, *range(1, threshold)]
    assert slow.shamir_solve(points, [b"\0" + other, *shares]) == other


def test_the_operating_system_is_the_default_source() -> None:
    first, second = (split(bytes(32), 3, (1, 2, 3, 4)) for _ in range(2))
    assert first != second
    assert recover((4, 1, 2), [first[3], first[0], first[1]]) == bytes(32)


@given(st.binary(max_size=40))
def test_a_share_is_a_field_element_or_refused(raw: bytes) -> None:
    if len(raw) == 33 and int.from_bytes(raw, "big") < PRIME:
        assert parse_share(raw) == int.from_bytes(raw, "big")
        return
    with pytest.raises(ProtocolError) as caught:
        parse_share(raw)
    assert caught.value.reason is ErrorReason.MALFORMED


def test_elements_beyond_the_field_and_short_secrets_are_refused() -> None:
    for raw in (PRIME.to_bytes(33, "big"), bytes(34), bytes(32)):
        with pytest.raises(ProtocolError):
            parse_share(raw)
    with pytest.raises(ValueError, match="shorter"):
        recover((1, 2, 3), [bytes(33), bytes(33)])
    for secret in (b"short", bytes(33)):
        with pytest.raises(ProtocolError, match=f"{len(secret)} bytes"):
            split(secret, 2, (1, 2, 3))


def test_shares_that_give_no_32_byte_secret_are_refused() -> None:
    with pytest.raises(ProtocolError, match="one secret"):
        recover((1,), [(2**256).to_bytes(33, "big")])
