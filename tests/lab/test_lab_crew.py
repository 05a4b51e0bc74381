"""Cells side by side: what is told when one of them fails."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from tiny_lab import cell_of

from lab.simulation import Outcome
from lab.study.cell import Cell
from lab.study.crew import play_all


class Untaken(Future[Outcome]):
    """A cell that nobody takes up; told to be called off, as a pool tells it."""

    def cancel(self) -> bool:
        return super().cancel() and not self.set_running_or_notify_cancel()


def outcome_of(cell: Cell) -> Outcome:
    return Outcome(key=cell.key, accuracy=0.5, loss=1.0, curve=(), uploaded=1, downloaded=1, seconds=1.0)


def test_after_a_failure_what_is_played_is_told_and_nothing_more_is_begun() -> None:
    cells = [cell_of(seed=seed) for seed in range(1, 9)]
    failed, begun, told = threading.Event(), [], []

    def play(cell: Cell) -> Outcome:
        begun.append(cell.seed)
        if cell.seed == 2:
            failed.set()
            raise MemoryError("no room")
        # The first is in the middle of it when the second fails.
        assert failed.wait(20)
        return outcome_of(cell)

    with ThreadPoolExecutor(2) as pool:
        futures: list[Future[Outcome]] = []

        def submit(cell: Cell) -> Future[Outcome]:
            futures.append(pool.submit(play, cell) if cell.seed < 3 else Untaken())
            return futures[-1]

        with pytest.raises(MemoryError, match="no room"):
            play_all(cells, submit, lambda cell, outcome: told.append((cell.seed, outcome.key)))
    assert sorted(begun) == [1, 2]
    assert all(future.cancelled() for future in futures[2:])
    assert told == [(1, cells[0].key)]


def test_every_outcome_is_told_once() -> None:
    cells = [cell_of(seed=seed) for seed in range(1, 9)]
    told: list[int] = []
    with ThreadPoolExecutor(3) as pool:
        play_all(cells, lambda cell: pool.submit(outcome_of, cell), lambda cell, _: told.append(cell.seed))
    assert sorted(told) == list(range(1, 9))
