"""What the coordinator is asked to do: a job on a small random model whose heads have a slot for every site."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coordinator.operator_client import OperatorClient
from simulation.tiny_text_model import write_tiny_model

_LABELS = ("pump", "engine", "cab")
_ROWS = "text,label\nhose burst,pump\nengine not start,engine\nthe cab door,cab\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Size of the model and of its heads; query and value of every layer are adapted."""

    hidden: int
    layers: int
    heads: int
    rank: int

    @property
    def head_parameters(self) -> int:
        """Return what is trained, the classifier left out."""
        return 2 * self.layers * self.heads * self.rank**2


SMALL = Shape(hidden=32, layers=1, heads=1, rank=32)
"""Two heads with 1,024 slots each."""

MILLION = Shape(hidden=512, layers=8, heads=4, rank=125)
"""1,000,000 parameters in 64 heads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How many rounds of what."""

    rounds: int
    minimum_sites: int
    shape: Shape = SMALL
    phase_deadline_s: float = 60.0
    gate: str = "finite"
    measure: str = "accuracy"

    def text(self) -> str:
        """Return the job file."""
        return f"""
[job]
name = "simulated"
rounds = {self.rounds}
[model]
name = "simulated"
[adapter]
heads = {self.shape.heads}
rank = {self.shape.rank}
[training]
data = "none"
labels = ["{'", "'.join(_LABELS)}"]
max_length = 16
steps = 1
[round]
minimum_sites = {self.minimum_sites}
training_deadline_s = {self.phase_deadline_s}
phase_deadline_s = {self.phase_deadline_s}
[secure_aggregation]
bundle_threshold = 3
[evaluation]
data = "held-out.csv"
gate = "{self.gate}"
measure = "{self.measure}"
"""


async def submit(client: OperatorClient, order: Order, folder: Path) -> str:
    """Take the model in, submit the job and return its id; files go to `folder`."""
    shape = order.shape
    model = write_tiny_model(folder / "model", hidden=shape.hidden, layers=shape.layers)
    await client.add_model(model, "simulated")
    (folder / "held-out.csv").write_text(_ROWS, encoding="utf-8")
    path = folder / "job.toml"
    path.write_text(order.text(), encoding="utf-8")
    return str((await client.submit_job(path)).job_id)
