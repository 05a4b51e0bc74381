"""Documents open under the right key and kind alone, and their digests are the labelled ones."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import find
from manifest_values import plans, rosters

from ravan.codec.documents import encode_plan, encode_roster, model_digest, open_document, sign_document
from ravan.codec.enums import ERROR_REASON, LIMIT_SOURCE, ROUND_OUTCOME, EnumMap
from ravan.errors import ErrorReason, ProtocolError
from ravan.ids import Digest
from ravan.manifest.documents import DocumentKind
from ravan.manifest.phases import RoundOutcome
from ravan.manifest.plan import ModelFile, Task
from ravan.manifest.profile import LimitSource
from ravan.wire.v1 import round_pb2

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
PLAN = find(plans(), lambda _: True)


def field(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def test_a_signed_plan_opens_with_its_labelled_digest() -> None:
    payload = encode_plan(PLAN)
    plan, digest = open_document(DocumentKind.PLAN, sign_document(DocumentKind.PLAN, payload, KEY), PUBLIC)
    assert plan == PLAN
    assert digest == hashlib.sha256(field(b"ravan/v1/document/plan") + field(payload)).digest()


def test_a_changed_payload_is_refused_before_it_is_parsed() -> None:
    signed = sign_document(DocumentKind.PLAN, encode_plan(PLAN), KEY)
    with pytest.raises(ProtocolError, match="coordinator's plan") as caught:
        open_document(DocumentKind.PLAN, replace(signed, payload=b"\xff"), PUBLIC)
    assert caught.value.reason is ErrorReason.SIGNATURE_INVALID


def test_another_key_is_refused() -> None:
    signed = sign_document(DocumentKind.PLAN, encode_plan(PLAN), KEY)
    other = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw()
    with pytest.raises(ProtocolError) as caught:
        open_document(DocumentKind.PLAN, signed, other)
    assert caught.value.reason is ErrorReason.SIGNATURE_INVALID


def test_a_roster_is_no_assignment() -> None:
    signed = sign_document(DocumentKind.ROSTER, encode_roster(find(rosters(), lambda _: True)), KEY)
    with pytest.raises(ProtocolError) as caught:
        open_document(DocumentKind.ASSIGNMENT, signed, PUBLIC)
    assert caught.value.reason is ErrorReason.SIGNATURE_INVALID


def test_the_model_digest_covers_names_lengths_and_hashes_in_any_order() -> None:
    first = ModelFile(path="config.json", sha256=Digest(b"a" * 32), size_bytes=5)
    second = ModelFile(path="vocab.txt", sha256=Digest(b"b" * 32), size_bytes=7)
    expected = hashlib.sha256(
        field(b"ravan/v1/model-files")
        + (field(b"config.json") + (5).to_bytes(8, "big") + field(b"a" * 32))
        + (field(b"vocab.txt") + (7).to_bytes(8, "big") + field(b"b" * 32))
    ).digest()
    assert model_digest([first, second]) == model_digest([second, first]) == expected
    assert model_digest([replace(first, size_bytes=6), second]) != expected


def test_a_list_that_grew_on_one_side_is_noticed() -> None:
    with pytest.raises(TypeError, match="same names"):
        EnumMap(Task, round_pb2.RoundOutcome, "ROUND_OUTCOME_")


def test_every_reason_has_its_own_number() -> None:
    numbers = [ERROR_REASON.to_wire(reason) for reason in ErrorReason]
    assert len(set(numbers)) == len(ErrorReason)
    assert [ERROR_REASON.from_wire(number) for number in numbers] == list(ErrorReason)


def test_unset_means_what_the_wire_says() -> None:
    assert LIMIT_SOURCE.from_wire(LIMIT_SOURCE.to_wire(None)) is LimitSource.MACHINE
    assert ROUND_OUTCOME.from_wire_or_none(ROUND_OUTCOME.to_wire(None)) is None
    assert ROUND_OUTCOME.from_wire_or_none(ROUND_OUTCOME.to_wire(RoundOutcome.STOPPED)) is RoundOutcome.STOPPED
    with pytest.raises(ProtocolError, match="0 is no RoundOutcome"):
        ROUND_OUTCOME.from_wire(ROUND_OUTCOME.to_wire(None))
