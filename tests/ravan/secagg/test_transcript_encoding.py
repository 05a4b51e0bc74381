"""The canonical encoding: no two values alike, no two purposes alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravan.ids import Digest
from ravan.manifest.documents import DocumentKind
from ravan.secagg import transcript
from ravan.secagg.transcript import Label

DIGESTS = st.binary(min_size=32, max_size=32).map(Digest)
INDICES = st.lists(st.integers(0, 2**16 - 1), max_size=4)


def test_labels_are_distinct_and_none_is_aliased() -> None:
    values = [label.value for label in Label]
    assert len(Label.__members__) == len(set(values)) == len(values)


@given(*[st.tuples(DIGESTS, INDICES, INDICES)] * 2)
def test_survivor_bytes_are_injective(
    one: tuple[Digest, list[int], list[int]], other: tuple[Digest, list[int], list[int]]
) -> None:
    assert (transcript.survivor_bytes(*one) == transcript.survivor_bytes(*other)) == (one == other)


@given(*[st.tuples(DIGESTS, st.integers(0, 99), st.binary(max_size=3), st.binary(max_size=3))] * 2)
def test_advertise_bytes_are_injective(
    one: tuple[Digest, int, bytes, bytes], other: tuple[Digest, int, bytes, bytes]
) -> None:
    assert (transcript.advertise_bytes(*one) == transcript.advertise_bytes(*other)) == (one == other)


def test_moving_an_element_between_lists_changes_the_bytes() -> None:
    digest = Digest(bytes(32))
    assert transcript.survivor_bytes(digest, [1, 2], [3]) != transcript.survivor_bytes(digest, [1], [2, 3])


@given(st.binary(max_size=40))
def test_the_same_bytes_as_two_kinds_of_document_have_two_digests(payload: bytes) -> None:
    assert len({transcript.document_digest(kind, payload) for kind in DocumentKind}) == len(DocumentKind)
    assert len({transcript.document_signing_bytes(kind, payload) for kind in DocumentKind}) == len(DocumentKind)


@given(st.binary(min_size=1, max_size=40), st.integers(0, 319))
def test_every_bit_of_a_document_counts(payload: bytes, bit: int) -> None:
    bit %= 8 * len(payload)
    flipped = bytearray(payload)
    flipped[bit // 8] ^= 1 << bit % 8
    digests = {transcript.document_digest(DocumentKind.ASSIGNMENT, bytes(p)) for p in (payload, flipped)}
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("encoder", "limit"), [(transcript.u8, 2**8), (transcript.u16, 2**16), (transcript.u64, 2**64)]
)
def test_numbers_that_do_not_fit_are_refused(encoder: object, limit: int) -> None:
    assert callable(encoder)
    assert int.from_bytes(encoder(limit - 1), "big") == limit - 1
    for value in (limit, -1):
        with pytest.raises(OverflowError):
            encoder(value)
