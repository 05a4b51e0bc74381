"""What has been run is never lost and never taken for something else."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_lab import CELL

from lab.simulation import Outcome, Point
from lab.study.cell import Cell
from lab.study.outcomes import OutcomeFile
from ravan.errors import DataError


def cell(seed: int) -> Cell:
    return dataclasses.replace(CELL, seed=seed)


def outcome(seed: int, accuracy: float = 0.5) -> Outcome:
    return Outcome(
        key=cell(seed).key,
        accuracy=accuracy,
        loss=1.25,
        curve=(Point(round_number=1, accuracy=accuracy, loss=1.5), Point(round_number=2, accuracy=0.1, loss=1.0)),
        uploaded=123,
        downloaded=45,
        seconds=0.5,
        diverged=seed % 2 == 1,
    )


def written(path: Path, count: int) -> OutcomeFile:
    file = OutcomeFile(path)
    for seed in range(count):
        file.add(cell(seed), outcome(seed))
    return file


def kept_seeds(path: Path, seeds: int = 3) -> list[int]:
    file = OutcomeFile(path)
    return [seed for seed in range(seeds) if file.find(cell(seed)) is not None]


def test_what_was_added_is_found_at_once_and_by_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "outcomes.jsonl"
    for file in (written(path, 3), OutcomeFile(path)):
        assert [file.find(cell(seed)) for seed in range(4)] == [outcome(0), outcome(1), outcome(2), None]


def test_a_cell_that_is_played_again_has_its_last_outcome(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    written(path, 1).add(cell(0), outcome(0, accuracy=0.75))
    assert OutcomeFile(path).find(cell(0)) == outcome(0, accuracy=0.75)


def test_a_loss_that_is_no_number_survives(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    OutcomeFile(path).add(cell(0), dataclasses.replace(outcome(0), loss=math.nan, curve=()))
    found = OutcomeFile(path).find(cell(0))
    assert found is not None
    assert math.isnan(found.loss)


@settings(deadline=None)
@given(st.data())
def test_a_line_cut_off_anywhere_is_left_out_and_written_over(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "outcomes.jsonl"
    written(path, 3)
    whole = path.read_bytes()
    edges = [0, *(i + 1 for i, byte in enumerate(whole) if byte == ord("\n"))]
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    kept = sum(edge <= cut for edge in edges) - 1
    file = OutcomeFile(path)
    assert [file.find(cell(seed)) for seed in range(3)] == [outcome(s) if s < kept else None for s in range(3)]
    file.add(cell(7), outcome(7))
    again = OutcomeFile(path)
    assert kept_seeds(path, 8) == [*range(kept), 7]
    assert again.find(cell(7)) == outcome(7)
    assert path.read_bytes()[: edges[kept]] == whole[: edges[kept]]


def test_a_reader_takes_nothing_from_a_study_that_is_still_writing(tmp_path: Path) -> None:
    """A report that opens the file in the middle of a line must leave it as it is."""
    path = tmp_path / "outcomes.jsonl"
    written(path, 2)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    assert kept_seeds(path) == [0]
    with path.open("ab") as file:
        file.write(whole[-5:])
    assert kept_seeds(path) == [0, 1]


def test_reading_where_nothing_has_been_run_makes_no_folder(tmp_path: Path) -> None:
    assert kept_seeds(tmp_path / "study" / "outcomes.jsonl") == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("garbage", [b"\x00\x00\x00", b"{}", b"[1]", b"\xff\xfe", b'{"outcome": {"key": 1}}', b""])
def test_a_damaged_line_between_others_is_named(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "outcomes.jsonl"
    written(path, 2)
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join((first, garbage, second, b"")))
    with pytest.raises(DataError, match=r"Line 2 of .*outcomes.jsonl is no outcome") as refused:
        OutcomeFile(path)
    assert refused.value.next_step == "Delete that line; its run is then played again."
    path.write_bytes(b"\n".join((first, second, b"")))
    assert kept_seeds(path) == [0, 1]


def test_what_another_study_has_is_adopted_for_good_and_nothing_else(tmp_path: Path) -> None:
    other, path = tmp_path / "other.jsonl", tmp_path / "mine.jsonl"
    written(other, 3)
    OutcomeFile(path).add(cell(1), outcome(1, accuracy=0.75))
    # A study's own file may be among its neighbours.
    mine = OutcomeFile(path, [other, path])
    assert mine.find(cell(2)) == outcome(2)
    mine.adopt([cell(0), cell(1), cell(5)])
    other.unlink()
    again = OutcomeFile(path)
    assert [again.find(cell(seed)) for seed in (0, 1, 2, 5)] == [outcome(0), outcome(1, accuracy=0.75), None, None]
