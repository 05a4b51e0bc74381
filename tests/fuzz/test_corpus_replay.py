"""Every kept input through its reader, without the fuzzer: what once broke one is refused ever after."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from fuzz.mutation import mutate_serialised
from fuzz.places import FOUND, committed_inputs
from fuzz.target import Format, Target, join_parts, split_parts
from fuzz.targets import TARGETS
from ravan.errors import ErrorReason, ProtocolError, RavanError, StateError

# cryptography warns of certificates that it still reads; what is wrong with one is for the readers to say
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SEEDS = [(target.name, name, seed) for target in TARGETS.values() for name, seed in target.seeds().items()]
INPUTS = [(name, path) for name in TARGETS for path in committed_inputs(name)]
FINDINGS = [(name, path) for name, path in INPUTS if path.name.startswith(FOUND)]


@pytest.mark.parametrize(("target", "seed"), [pytest.param(t, s, id=f"{t}-{name}") for t, name, s in SEEDS])
def test_a_seed_is_sound(target: str, seed: bytes) -> None:
    assert TARGETS[target].accepts(seed)


@pytest.mark.parametrize(("target", "path"), [pytest.param(t, p, id=f"{t}-{p.name}") for t, p in FINDINGS])
def test_what_once_broke_a_reader_is_refused(target: str, path: Path) -> None:
    assert not TARGETS[target].accepts(path.read_bytes())


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_the_corpus_is_read_or_refused(target: Target) -> None:
    inputs = [*target.seeds().values(), *(path.read_bytes() for path in committed_inputs(target.name))]
    assert {target.accepts(data) for data in inputs} == ({True, False} if target.refusals else {True})


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_an_empty_input_is_read_or_refused(target: Target) -> None:
    assert target.accepts(b"") is target.accepts(b"\0")


def broken(error: Exception) -> Target:
    def read(data: bytes) -> None:
        raise error

    reader = Format(name="broken", read=read, seeds=lambda: [])
    return Target(name="broken", formats=(reader,), refusals={ProtocolError: frozenset({ErrorReason.MALFORMED})})


def test_a_documented_refusal_is_no_finding() -> None:
    assert not broken(ProtocolError("No.", reason=ErrorReason.MALFORMED)).accepts(b"x")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("not ours"),
        ProtocolError("Of another reason.", reason=ErrorReason.CANARY_MISMATCH),
        StateError("Of another kind.", reason=ErrorReason.MALFORMED),
    ],
)
def test_any_other_error_is_a_finding(error: ValueError | RavanError) -> None:
    with pytest.raises(type(error)) as caught:
        broken(error).accepts(b"x")
    assert caught.value is error


def test_a_refusal_that_cannot_travel_is_a_finding() -> None:
    with pytest.raises(UnicodeEncodeError):
        broken(ProtocolError("\ud800", reason=ErrorReason.MALFORMED)).accepts(b"x")


def test_targets_need_no_fuzzer() -> None:
    assert "atheris" not in sys.modules


@given(st.lists(st.binary(max_size=9)))
def test_parts_come_apart_as_they_were_joined(parts: list[bytes]) -> None:
    assert split_parts(join_parts(*parts)) == parts


MESSAGES = [
    pytest.param(message, seed[1:], id=f"{target}-{name}")
    for target, name, seed in SEEDS
    if (message := TARGETS[target].format_of(seed).message)
]


@pytest.mark.parametrize(("kind", "data"), MESSAGES)
def test_a_mutated_message_stays_a_message(kind: type[Message], data: bytes) -> None:
    chance = random.Random(1)  # noqa: S311 - the same in every run
    seen = {data}
    for _ in range(50):
        data = mutate_serialised(kind, data, chance, lambda raw: raw[::-1] + b"\xff")
        kind.FromString(data)  # raises for anything else
        seen.add(data)
    assert len(seen) > 10
