"""Plans of the laboratory as text, on the tiny task, and outcomes that nobody played."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future

from lab.simulation import Outcome
from lab.study.cell import Cell
from lab.study.crew import Submit

PLAN = """
[study]
name = "tiny"
task = "tiny"
seeds = [1, 2]
baseline = "ravan"

[training]
rounds = 2
steps = 1
batch_size = 4
lora_rank = 2
average_last = 1

[[federation]]
name = "iid"
split = "iid"
clients = 2
per_round = 2

[[method]]
name = "ravan"
kind = "ravan"
learning_rate = 0.01
options = { heads = 2, basis = "normal", train_scales = false }

[[method]]
name = "fedit"
kind = "fedit"
learning_rate = 0.003
"""

TUNED = """
[study]
name = "tuned"
task = "tiny"
seeds = [1, 2, 3]
baseline = "ravan"

[training]
rounds = 8
steps = 1

[tuning]
rates = [0.001, 0.003, 0.01, 0.03, 0.1]
rungs = [1, 2, 4]
seeds = [99]

[[federation]]
name = "iid"
split = "iid"
clients = 2
per_round = 2

[[federation]]
name = "skewed"
split = "dirichlet"
clients = 3
per_round = 2
alpha = 0.5

[[method]]
name = "ravan"
kind = "ravan"

[[method]]
name = "normal"
kind = "ravan"
rates_of = "ravan"
options = { basis = "normal" }

[[method]]
name = "fedit"
kind = "fedit"

[[method]]
name = "floor"
kind = "head_only"
learning_rate = 0.5
"""


def outcome_of(cell: Cell, accuracy: float) -> Outcome:
    return Outcome(
        key=cell.key, accuracy=accuracy, loss=0.0, curve=(), uploaded=2_000_000, downloaded=3_000_000, seconds=90.0
    )


def scripted(accuracy: Callable[[Cell], float], played: list[Cell]) -> Submit:
    """Return a crew that answers at once from a made-up table and notes what it was asked for."""

    def submit(cell: Cell) -> Future[Outcome]:
        played.append(cell)
        future: Future[Outcome] = Future()
        future.set_result(outcome_of(cell, accuracy(cell)))
        return future

    return submit


def rates_of(cells: Iterable[Cell]) -> list[float]:
    return sorted({cell.learning_rate for cell in cells})
