"""How far a study is: a bar on a terminal, and a line for each run that is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lab.simulation import Outcome
from lab.study.cell import Cell


@contextmanager
def show_progress(left: int, kept: int) -> Iterator[Callable[[Cell, Outcome], None]]:
    """Yield what is to be told of each outcome; so many runs are left, and so many kept from before."""
    console, started = Console(stderr=True), time.monotonic()
    columns = (TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("runs", total=left + kept, completed=kept)

        def told(cell: Cell, outcome: Outcome) -> None:
            bar.advance(task)
            what = "diverged" if outcome.diverged else f"{100 * outcome.accuracy:.2f} %"
            minutes = (time.monotonic() - started) / 60
            options = " ".join(f"{name}={value}" for name, value in cell.options)
            console.print(
                f"{minutes:6.1f} min  {cell.method} {options} rate {cell.learning_rate:g}  {cell.federation}  "
                f"{cell.training.rounds} rounds, seed {cell.seed}, {cell.part}: {what}",
                highlight=False,
                soft_wrap=True,
            )

        yield told
