"""Wrong shares among right ones: how many are found, and that nothing is believed on less evidence."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import pytest
import slow_headsum as slow
from hypothesis import given
from hypothesis import strategies as st
from secagg_driver import seeded

from ravan.errors import ErrorReason, ProtocolError
from ravan.secagg.bundles import shamir_threshold
from ravan.secagg.decoding import decode
from ravan.secagg.shamir import PRIME, split


@dataclass(frozen=True)
class Case:
    secret: bytes
    threshold: int
    points: tuple[int, ...]
    shares: tuple[bytes, ...]

    @property
    def radius(self) -> int:
        return (len(self.points) - self.threshold) // 2

    def with_lies(self, lies: dict[int, int]) -> list[bytes]:
        """Add `lies[point]` to the share of each point."""
        values = (int.from_bytes(share, "big") for share in self.shares)
        return [
            ((value + lies.get(x, 0)) % PRIME).to_bytes(33, "big") for x, value in zip(self.points, values, strict=True)
        ]


@st.composite
def cases(draw: st.DrawFn, most: int = 30) -> Case:
    members = draw(st.integers(3, most))
    threshold = shamir_threshold(members)
    secret = draw(st.binary(min_size=32, max_size=32))
    shares = split(secret, threshold, range(1, members + 1), lambda size: slow.expand(seeded(secret), b"", size))
    points = draw(st.permutations(range(1, members + 1)))[: draw(st.integers(threshold, members))]
    return Case(secret, threshold, tuple(points), tuple(shares[x - 1] for x in points))


@given(cases(), st.data())
def test_as_many_liars_as_the_redundancy_allows_are_all_named(case: Case, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, case.radius))
    liars = data.draw(st.permutations(case.points))[:count]
    lies = {liar: data.draw(st.integers(1, PRIME - 1)) for liar in liars}
    decoded = decode(case.points, case.with_lies(lies), case.threshold)
    assert decoded is not None
    assert decoded.secret == case.secret
    assert set(decoded.wrong) == set(liars)


@given(cases(), st.data())
def test_liars_who_move_the_whole_polynomial_between_them_are_named_too(case: Case, data: st.DataObject) -> None:
    liars = data.draw(st.permutations(case.points))[: case.radius]
    honest = [x for x in case.points if x not in liars][: case.threshold - 1]
    # A polynomial of the sharing's degree that is zero at as many honest points as it can be.
    lies = {}
    for liar in liars:
        lies[liar] = 1
        for x in honest:
            lies[liar] = lies[liar] * (liar - x) % PRIME
    decoded = decode(case.points, case.with_lies(lies), case.threshold)
    assert decoded is not None
    assert (decoded.secret, set(decoded.wrong)) == (case.secret, set(liars))


@given(cases(most=9), st.data())
def test_whatever_is_answered_a_secret_is_believed_on_enough_agreeing_shares_only(
    case: Case, data: st.DataObject
) -> None:
    lies = {x: data.draw(st.integers(0, PRIME - 1)) for x in case.points}
    shares = case.with_lies(lies)
    decoded = decode(case.points, shares, case.threshold)
    if decoded is None:
        return
    assert len(decoded.wrong) <= case.radius
    right = [(x, share) for x, share in zip(case.points, shares, strict=True) if x not in decoded.wrong]
    for chosen in combinations(right, case.threshold):
        assert slow.shamir_solve([x for x, _ in chosen], [share for _, share in chosen]) == decoded.secret


def test_one_liar_too_many_is_not_decoded() -> None:
    shares = list(split(seeded("secret"), 4, range(1, 8), lambda size: slow.expand(seeded("k"), b"", size)))
    for x in (2, 5):
        shares[x - 1] = seeded(x).rjust(33, b"\0")
    assert decode(range(1, 8), shares, 4) is None
    # Two answers more would do.
    longer = split(seeded("secret"), 4, range(1, 10), lambda size: slow.expand(seeded("k"), b"", size))
    decoded = decode(range(1, 10), [*shares, *longer[7:]], 4)
    assert decoded is not None
    assert (decoded.secret, decoded.wrong) == (seeded("secret"), (2, 5))


def test_fewer_shares_than_the_threshold_are_not_decoded() -> None:
    shares = split(seeded("secret"), 4, range(1, 4), lambda size: slow.expand(seeded("k"), b"", size))
    assert decode(range(1, 4), shares, 4) is None


def test_what_is_no_secret_of_32_bytes_is_not_decoded() -> None:
    beyond = [(1 << 256).to_bytes(33, "big")] * 3
    assert decode((1, 2, 3), beyond, 1) is None
    zero = [bytes(33)] * 3
    decoded = decode((1, 2, 3), zero, 1)
    assert decoded is not None
    assert decoded.secret == bytes(32)
    assert bytes(32).hex() not in repr(decoded)


def test_what_is_no_share_is_refused() -> None:
    with pytest.raises(ProtocolError) as caught:
        decode((1, 2), [bytes(33), PRIME.to_bytes(33, "big")], 1)
    assert caught.value.reason is ErrorReason.MALFORMED
