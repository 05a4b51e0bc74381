"""What is written down of a round: read back as it was, damaged, and asked to follow a second document."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.secure.notes import Document, RoundNotes, find_left_round
from ravan.errors import ErrorReason, ProtocolError
from ravan.ids import Digest, RunId
from ravan.manifest.instructions import RoundRef

PROCESS = b"p" * 16


def reference(number: int) -> RoundRef:
    return RoundRef(
        run_id=RunId(b"r" * 16),
        round_number=number,
        assignment_digest=Digest(bytes([number]) * 32),
        roster_digest=Digest(b""),
    )


def test_another_process_finds_the_round_as_it_began(tmp_path: Path) -> None:
    began = RoundNotes(tmp_path / "rounds" / "one").begin(reference(1), PROCESS)
    assert find_left_round(tmp_path / "rounds") == began
    assert began.reference == reference(1)
    assert began.process_id == PROCESS
    again = RoundNotes(tmp_path / "rounds" / "one").begin(reference(1), b"q" * 16)
    assert again == began


def test_another_assignment_in_the_same_folder_begins_anew(tmp_path: Path) -> None:
    notes = RoundNotes(tmp_path / "one")
    first, second = notes.begin(reference(1), PROCESS), notes.begin(reference(2), PROCESS)
    assert first.root != second.root
    assert first.seed != second.seed


def test_secrets_are_the_owners_alone_and_not_shown(tmp_path: Path) -> None:
    notes = RoundNotes(tmp_path / "one")
    opening = notes.begin(reference(1), PROCESS)
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "one" / "round.json").stat().st_mode) == 0o600
    for secret in (opening.root, opening.seed):
        assert repr(secret) not in repr(opening)
        assert secret.hex() not in repr(opening)


def test_there_is_nothing_to_go_on_with_where_it_is_not_clear_which(tmp_path: Path) -> None:
    rounds = tmp_path / "rounds"
    assert find_left_round(rounds) is None
    for number in (1, 2):
        RoundNotes(rounds / str(number)).begin(reference(number), PROCESS)
    assert find_left_round(rounds) is None
    shutil.rmtree(rounds / "1")
    left = find_left_round(rounds)
    assert left is not None
    assert left.round_number == 2


@given(st.binary(max_size=300) | st.dictionaries(st.text(max_size=9), st.integers() | st.text(), max_size=8))
def test_what_cannot_be_read_is_no_round(tmp_path_factory: pytest.TempPathFactory, content: object) -> None:
    folder = tmp_path_factory.mktemp("rounds")
    (folder / "one").mkdir()
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / "one" / "round.json").write_bytes(raw)
    assert find_left_round(folder) is None


@pytest.mark.parametrize("key", ["run", "round", "assignment", "process", "root", "seed", "format"])
@pytest.mark.parametrize("value", [None, "", "zz", "00", -1, []])
def test_a_damaged_value_makes_it_no_round(tmp_path: Path, key: str, value: object) -> None:
    RoundNotes(tmp_path / "one").begin(reference(1), PROCESS)
    path = tmp_path / "one" / "round.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {key: value}))
    assert find_left_round(tmp_path) is None


@pytest.mark.parametrize("document", Document)
def test_a_site_follows_one_of_each_document_whichever_process_asks(tmp_path: Path, document: Document) -> None:
    RoundNotes(tmp_path / "one").follow(document, b"first")
    RoundNotes(tmp_path / "one").follow(document, b"first")
    with pytest.raises(ProtocolError) as caught:
        RoundNotes(tmp_path / "one").follow(document, b"second")
    assert caught.value.reason is ErrorReason.PROTOCOL_VIOLATION
    RoundNotes(tmp_path / "one").follow(document, b"first")


def test_dropping_the_update_leaves_the_payload(tmp_path: Path) -> None:
    notes = RoundNotes(tmp_path)
    for path in (notes.payload, notes.outcome, notes.checkpoint):
        path.write_bytes(b"content")
    notes.drop_update()
    notes.drop_update()
    assert [path.name for path in tmp_path.iterdir()] == ["payload"]
