"""The chain is what a second implementation computes, and no single change to a log goes unnoticed."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import fields, replace

import pytest
from audit_chains import KEY, STRANGER, Chain, entry, ordinary_chain, write_chain
from hypothesis import given
from hypothesis import strategies as st

from coordinator.audit.chain import (
    CHECKPOINT_EVERY,
    AuditKind,
    AuditRecord,
    Position,
    SignedAs,
    is_signed,
    sign_head,
)
from coordinator.audit.verification import SHOWN, FindingKind

LENGTH = 12
CHAIN = ordinary_chain(LENGTH)
PLACES = st.integers(0, LENGTH - 1)
ANYTHING = st.integers(-(1 << 63), (1 << 63) - 1) | st.none() | st.text()
NUMBERS = [field.name for field in fields(AuditRecord) if field.type == "int"]
TEXTS = [field.name for field in fields(AuditRecord) if field.type == "str"]


def head_by_hand(before: bytes, record: AuditRecord) -> bytes:
    parts = [b"ravan/v1/audit-record", before, struct.pack(">Q", record.sequence), struct.pack(">Q", record.at_ms)]
    parts += [text.encode() for text in (record.kind, record.actor, record.subject, record.facts)]
    state = hashlib.sha256()
    for part in parts:
        state.update(struct.pack(">I", len(part)))
        state.update(part)
    return state.digest()


def kinds_of(chain: Chain, *witnessed: Position) -> set[FindingKind]:
    return {finding.kind for finding in chain.check(witnessed).findings}


def write_anew(records: list[AuditRecord], begin: int) -> list[AuditRecord]:
    """Make heads fit again from a place on, as one can who knows the code and not the key."""
    head = bytes(32) if begin == 0 else bytes.fromhex(records[begin - 1].head)
    for place in range(begin, len(records)):
        records[place] = replace(records[place], sequence=place + 1)
        head = head_by_hand(head, records[place])
        records[place] = replace(records[place], head=head.hex())
    return records


def test_heads_are_those_of_a_second_implementation() -> None:
    head = bytes(32)
    for number, record in enumerate(CHAIN.records, start=1):
        head = head_by_hand(head, record)
        assert (record.sequence, record.head) == (number, head.hex())
        assert json.loads(record.facts) == {"round": number}


def test_signatures_are_under_labels_of_their_own() -> None:
    head = CHAIN.records[-1].head
    said = [b"ravan/v1/audit-seal", struct.pack(">Q", LENGTH), bytes.fromhex(head)]
    message = b"".join(struct.pack(">I", len(part)) + part for part in said)
    assert CHAIN.seal is not None
    KEY.public_key().verify(bytes.fromhex(CHAIN.seal.signature), message)
    checkpoint = sign_head(KEY, SignedAs.CHECKPOINT, CHAIN.records[-1].position)
    assert is_signed(checkpoint, SignedAs.CHECKPOINT, KEY.public_key())
    assert not is_signed(checkpoint, SignedAs.SEAL, KEY.public_key())


def test_a_log_as_it_was_written_is_sound_and_witnessed() -> None:
    seen = [CHAIN.records[place].position for place in (0, 4, LENGTH - 1)]
    verdict = CHAIN.check(seen)
    assert verdict.is_sound
    assert (verdict.records, verdict.checkpoints, verdict.witnessed) == (LENGTH, 2, 3)
    assert verdict.head == CHAIN.records[-1].head


def test_checkpoints_come_with_committed_rounds_and_now_and_then() -> None:
    chain = write_chain([entry(n) for n in range(1, CHECKPOINT_EVERY + 3)])
    assert [each.sequence for each in chain.checkpoints] == [CHECKPOINT_EVERY]
    assert [each.sequence for each in CHAIN.checkpoints] == [5, 10]


@given(
    place=PLACES, name=st.sampled_from(NUMBERS), value=st.integers(-(1 << 63), (1 << 63) - 1) | st.none() | st.text()
)
def test_any_other_number_in_any_record_is_found(place: int, name: str, value: object) -> None:
    record = CHAIN.records[place]
    if value == getattr(record, name):
        return
    changed = replace(record, **{name: value})  # type: ignore[arg-type] # an SQLite column takes any
    records = [*CHAIN.records[:place], changed, *CHAIN.records[place + 1 :]]
    assert not CHAIN.with_records(records).check().is_sound


@given(place=PLACES, name=st.sampled_from(TEXTS), value=st.text() | st.none() | st.integers() | st.binary())
def test_any_other_text_in_any_record_is_found(place: int, name: str, value: object) -> None:
    record = CHAIN.records[place]
    if value == getattr(record, name):
        return
    changed = replace(record, **{name: value})  # type: ignore[arg-type] # an SQLite column takes any
    records = [*CHAIN.records[:place], changed, *CHAIN.records[place + 1 :]]
    assert not CHAIN.with_records(records).check().is_sound


@given(begin=PLACES, count=st.integers(1, LENGTH))
def test_any_run_of_records_that_is_gone_is_found(begin: int, count: int) -> None:
    left = [*CHAIN.records[:begin], *CHAIN.records[begin + count :]]
    assert not CHAIN.with_records(left).check().is_sound


@given(begin=PLACES, count=st.integers(1, LENGTH))
def test_records_that_are_gone_and_closed_up_are_found(begin: int, count: int) -> None:
    left = [*CHAIN.records[:begin], *CHAIN.records[begin + count :]]
    assert not CHAIN.with_records(write_anew(left, begin)).check().is_sound


@given(first=PLACES, second=PLACES, renumbered=st.booleans(), anew=st.booleans())
def test_records_that_changed_places_are_found(first: int, second: int, renumbered: bool, anew: bool) -> None:
    if first == second:
        return
    records = list(CHAIN.records)
    records[first], records[second] = records[second], records[first]
    if renumbered:
        records = [replace(record, sequence=number) for number, record in enumerate(records, start=1)]
    if anew:
        records = write_anew(records, 0)
    assert not CHAIN.with_records(records).check().is_sound


@given(place=st.integers(0, LENGTH), anew=st.booleans())
def test_a_record_that_was_put_in_is_found(place: int, anew: bool) -> None:
    false = replace(CHAIN.records[0], subject="plant-z", sequence=place + 1)
    records = [*CHAIN.records[:place], false, *CHAIN.records[place:]]
    if anew:
        records = write_anew(records, place)
    assert not CHAIN.with_records(records).check().is_sound


@given(place=PLACES, resealed=st.booleans())
def test_a_tail_that_was_hashed_anew_without_the_key_is_found(place: int, resealed: bool) -> None:
    records = list(CHAIN.records)
    records[place] = replace(records[place], actor="operator:nobody:1")
    forged = CHAIN.with_records(write_anew(records, place))
    if resealed:
        forged = replace(forged, seal=sign_head(STRANGER, SignedAs.SEAL, forged.records[-1].position))
    assert FindingKind.SEAL in kinds_of(forged)


def test_an_older_seal_made_of_a_checkpoint_is_none() -> None:
    short = Chain(records=CHAIN.records[:10], checkpoints=CHAIN.checkpoints, seal=CHAIN.checkpoints[1])
    assert kinds_of(short) == {FindingKind.SEAL}


def test_checkpoints_that_are_gone_or_somebody_else_s_are_found() -> None:
    assert kinds_of(replace(CHAIN, checkpoints=CHAIN.checkpoints[:1])) == {FindingKind.CHECKPOINT}
    alien = sign_head(STRANGER, SignedAs.CHECKPOINT, CHAIN.records[4].position)
    assert kinds_of(replace(CHAIN, checkpoints=(alien, CHAIN.checkpoints[1]))) == {FindingKind.CHECKPOINT}
    beyond = sign_head(KEY, SignedAs.CHECKPOINT, Position(sequence=LENGTH + 9, head="ab" * 32))
    assert kinds_of(replace(CHAIN, checkpoints=(*CHAIN.checkpoints, beyond))) == {FindingKind.CHECKPOINT}


def test_a_log_without_its_seal_or_without_anything_is_not_sound() -> None:
    assert kinds_of(replace(CHAIN, seal=None)) == {FindingKind.SEAL}
    assert kinds_of(Chain(records=(), checkpoints=(), seal=None)) == {FindingKind.EMPTY}
    assert kinds_of(Chain(records=(), checkpoints=(), seal=CHAIN.seal)) == {FindingKind.SEAL}


@given(place=PLACES)
def test_a_log_that_was_written_anew_with_the_key_is_found_by_a_witness_alone(place: int) -> None:
    entries = [entry(n, AuditKind(record.kind)) for n, record in enumerate(CHAIN.records, start=1)]
    entries[place] = replace(entries[place], subject="plant-z")
    forged = write_chain(entries)
    assert forged.check().is_sound
    assert forged.check([CHAIN.records[place - 1].position] if place else []).is_sound
    for later in CHAIN.records[place:]:
        assert kinds_of(forged, later.position) == {FindingKind.WITNESS}


@given(length=st.integers(1, LENGTH - 1))
def test_a_log_that_was_cut_off_with_the_key_is_found_by_a_witness_of_what_is_gone(length: int) -> None:
    short = ordinary_chain(length)
    assert short.check([CHAIN.records[length - 1].position]).is_sound
    assert kinds_of(short, CHAIN.records[length].position) == {FindingKind.WITNESS}


def test_findings_without_end_are_counted() -> None:
    chain = ordinary_chain(SHOWN + 30)
    records = [replace(record, subject="plant-z") for record in chain.records]
    verdict = chain.with_records(records).check()
    assert len(verdict.findings) == SHOWN
    assert verdict.more_findings == 30
    assert "Record 1 " in verdict.findings[0].sentence


@pytest.mark.parametrize("signature", ["", "zz", "00" * 64, "00" * 63, None, 7])
def test_a_signature_that_is_none_is_no_error(signature: object) -> None:
    assert CHAIN.seal is not None
    broken = replace(CHAIN.seal, signature=signature)  # type: ignore[arg-type] # an SQLite column takes any
    assert kinds_of(replace(CHAIN, seal=broken)) == {FindingKind.SEAL}
