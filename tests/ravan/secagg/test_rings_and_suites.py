"""Every keystream in every ring: exact sums, and payloads that the slow implementation makes as well."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import slow_headsum as slow
from hypothesis import given, settings
from hypothesis import strategies as st
from secagg_driver import Federation, make_assignment, refused, seeded
from test_whole_rounds import check_exact

from ravan.errors import ErrorReason
from ravan.manifest.assignment import MAX_GROUP, RING_WIDTHS, Assignment, Suite, Weighting
from ravan.secagg.bundles import bundles_of, shamir_threshold
from ravan.secagg.keys import KEY_BYTES
from ravan.secagg.terms import check_assignment

TILES = [(0, 1), (0, 1), (0,), (0, 1)]
COMBINATIONS = list(product(Suite, RING_WIDTHS))


@pytest.mark.parametrize(("suite", "ring_bits"), COMBINATIONS)
def test_sums_are_exact_and_payloads_are_those_of_the_slow_implementation(suite: Suite, ring_bits: int) -> None:
    assignment = make_assignment(TILES, lengths=(4, 3), dense=5, suite=suite, ring_bits=ring_bits)
    federation = Federation(assignment)
    everyone, uploaders = (0, 1, 2, 3), (0, 1, 3)
    check_exact(federation, (everyone, everyone, uploaders, uploaders))
    assert federation.roster is not None
    members = {i: slow.SlowMember(i, seeded("root", i)) for i in everyone}
    documents = slow.salt(federation.digest, federation.roster_digest)
    mask_set = slow.mask_set_digest(federation.digest, federation.roster_digest, list(everyone))
    for index, own in members.items():
        payload = b""
        for bundle in bundles_of(federation.roster.bundles, index):
            partners = {i: members[i].mask_key for i in bundle.members if i != index}
            vector = federation.vectors[index][bundle.bundle_id].tolist()
            masked = own.masked(
                bundle.bundle_id, vector, partners, documents, mask_set, suite=suite, ring_bits=ring_bits
            )
            payload += slow.packed(masked, ring_bits)
        assert payload == federation.payloads[index]
        assert len(payload) == sum(len(v) for v in federation.vectors[index].values()) * ring_bits // 8


def test_keys_have_the_length_of_their_cipher() -> None:
    assert {suite: KEY_BYTES[suite] for suite in Suite} == {
        Suite.AES_128_CTR: 16,
        Suite.AES_256_CTR: 32,
        Suite.CHACHA20: 32,
    }


@pytest.mark.parametrize("members", [3, 10, 32, 100, 128])
@pytest.mark.parametrize("ring_bits", RING_WIDTHS)
def test_the_largest_integers_of_a_whole_group_do_not_wrap(members: int, ring_bits: int) -> None:
    limit = make_assignment([(0,)] * members, ring_bits=ring_bits).quantum_limit
    assert members * limit <= 2 ** (ring_bits - 1) - 1 < members * (limit + 1)


def test_beyond_a_group_the_largest_integer_stays_that_of_a_group() -> None:
    assert make_assignment([(0,)] * 500).quantum_limit == make_assignment([(0,)] * MAX_GROUP).quantum_limit


def heavy(members: int, limit: int, ring_bits: int) -> Assignment:
    weighting = Weighting(limit=limit, unit=1, cell_minimum=3, cell_threshold=3)
    return make_assignment([(0,)] * members, ring_bits=ring_bits, weighting=weighting)


@pytest.mark.parametrize(
    ("members", "limit", "ring_bits"),
    [(128, 511, 16), (6, 10922, 16), (128, 131071, 24), (6, 2796202, 24), (6, 715827882, 32)],
)
def test_weights_that_could_wrap_are_refused_when_the_round_is_planned(
    members: int, limit: int, ring_bits: int
) -> None:
    assert members * limit < 2**ring_bits <= members * (limit + 1)
    check_assignment(heavy(members, limit, ring_bits))
    refused(
        ErrorReason.PROTOCOL_VIOLATION,
        lambda: check_assignment(heavy(members, limit + 1, ring_bits)),
        f"do not fit a ring of {ring_bits} bits",
    )


@pytest.mark.parametrize("bits", [8, 15, 17, 20, 31])
def test_other_rings_are_refused(bits: int) -> None:
    assignment = replace(make_assignment(TILES, lengths=(4, 3)), ring_bits=bits)
    refused(ErrorReason.PROTOCOL_VIOLATION, lambda: check_assignment(assignment), "there are 16, 24, 32")


@st.composite
def rounds(draw: st.DrawFn) -> tuple[Assignment, tuple[tuple[int, ...], ...]]:
    """A random round of 7 to 12 members with a random pattern that leaves t at each step."""
    members = draw(st.integers(7, 12))
    tiles = draw(st.lists(st.sets(st.integers(0, 3)).map(sorted), min_size=members, max_size=members))
    assignment = make_assignment(
        [tuple(mine) for mine in tiles],
        lengths=draw(st.lists(st.integers(1, 9), min_size=4, max_size=4)),
        dense=draw(st.integers(1, 9)),
        suite=draw(st.sampled_from(Suite)),
        ring_bits=draw(st.sampled_from(RING_WIDTHS)),
    )
    steps = [draw(_subset(range(members), 3))]
    for _ in range(3):
        steps.append(draw(_subset(steps[-1], shamir_threshold(len(steps[0])))))
    return assignment, tuple(steps)


def _subset(group: tuple[int, ...] | range, least: int) -> st.SearchStrategy[tuple[int, ...]]:
    chosen = st.sets(st.sampled_from(list(group)), min_size=least, max_size=len(group))
    return chosen.map(lambda some: tuple(sorted(some)))


@settings(deadline=None, max_examples=60)
@given(rounds())
def test_random_rounds_are_exact(drawn: tuple[Assignment, tuple[tuple[int, ...], ...]]) -> None:
    assignment, (finishers, sharers, uploaders, revealers) = drawn
    check_exact(Federation(assignment), (finishers, sharers, uploaders, revealers))
