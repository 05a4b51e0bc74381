"""What a line of the log shows: facts, and of anything else its kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from ravan.ids import RunId
from ravan.manifest.phases import RoundPhase
from ravan.redaction import MASKED, mask_binary, redact_line

WORD = "correct-horse-battery-staple"
PEM = f"-----BEGIN PRIVATE KEY-----\n{WORD}\n-----END PRIVATE KEY-----"

harmless = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(alphabet="abc .,7")
binary = st.binary(min_size=1).flatmap(lambda raw: st.sampled_from([raw, bytearray(raw), memoryview(raw)]))
arrays = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=5).flatmap(
    lambda numbers: st.sampled_from([np.array(numbers), torch.tensor(numbers)])
)


class Opaque:
    """An object whose repr says too much."""

    def __repr__(self) -> str:
        return WORD


opaque = st.builds(Opaque)
nested = st.recursive(
    harmless | binary | arrays | opaque,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc"), inner, max_size=4) | st.tuples(inner),
    max_leaves=12,
)


def redacted(**line: Any) -> dict[str, Any]:
    return dict(redact_line(None, "info", dict(line)))


def leaves(value: object) -> list[object]:
    if isinstance(value, dict):
        return [leaf for each in value.values() for leaf in leaves(each)]
    if isinstance(value, list | tuple):
        return [leaf for each in value for leaf in leaves(each)]
    return [value]


@given(value=nested)
def test_whatever_is_logged_comes_out_as_plain_facts(value: object) -> None:
    line = redacted(event="e", fact=value)
    assert all(isinstance(leaf, str | int | float | bool | None) for leaf in leaves(line))
    text = json.dumps(line)
    assert WORD not in text
    assert redacted(**line) == line


@given(value=harmless)
def test_facts_stay_as_they_are(value: object) -> None:
    assert redacted(fact=value, facts=[value]) == {"fact": value, "facts": [value]}


@given(raw=st.binary(min_size=8, max_size=32))
@example(raw=b"-" * 16)
def test_no_bytes_are_shown_in_any_writing(raw: bytes) -> None:
    line = str(redacted(a=raw, b=[bytearray(raw)], c={"d": (memoryview(raw),)}, e=RunId(raw), **{"f": {raw: 1}}))
    assert raw.hex() not in line
    assert repr(raw)[2:-1] not in line


@pytest.mark.parametrize("name", ["password", "token_secret", "mask_seed", "self_seeds", "share", "API_TOKEN"])
@pytest.mark.parametrize("value", [WORD, 7, [WORD], {"a": WORD}])
def test_a_field_that_is_called_a_secret_is_masked(name: str, value: object) -> None:
    assert redacted(**{name: value}) == {name: MASKED}
    assert redacted(inner={name: value}) == {"inner": {name: MASKED}}


@pytest.mark.parametrize("name", ["sites", "shared_with", "job", "phase", "holder", "seconds", "shares_of"])
def test_a_field_that_is_called_otherwise_is_shown(name: str) -> None:
    assert redacted(**{name: WORD}) == {name: WORD}


@pytest.mark.parametrize("text", [PEM, f"read {PEM} from disk", PEM[:40], f"enroll ravan1.{WORD}"])
def test_keys_and_join_strings_inside_sentences_are_masked(text: str) -> None:
    shown = redacted(event=text, why=ValueError(text))
    assert WORD[:8] not in str(shown)
    assert MASKED in shown["event"]


def test_a_row_of_numbers_is_no_fact() -> None:
    assert redacted(values=[0.5] * 17) == {"values": "<17 entries>"}
    assert redacted(values=[1, 2, 3], sites=["a"] * 40) == {"values": [1, 2, 3], "sites": ["a"] * 40}


def test_enumerations_paths_errors_and_numbers_of_numpy_are_facts() -> None:
    line = redacted(phase=RoundPhase.TRAINING, path=Path("a/b"), why=OSError("full"), count=np.int64(3))
    assert line == {"phase": "training", "path": "a/b", "why": "full", "count": 3}


def test_arguments_of_libraries_lose_what_nobody_can_read() -> None:
    assert mask_binary(b"\x00\x01") == "<bytes>"
    assert mask_binary(np.zeros(3)) == "<ndarray>"
    assert mask_binary(torch.zeros(3)) == "<Tensor>"
    assert mask_binary(3) == 3
