"""What goes into the evaluation process and comes out of it; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ravan.data.tables import TableFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What a base model offers a job."""

    linears: tuple[tuple[str, int, int], ...]
    """(name, out, in) of every layer to adapt, bottom to top."""
    dense: tuple[tuple[str, tuple[int, ...]], ...]
    """(name, shape) of every parameter to train whole, in the model's order."""
    parameters: int
    """Numbers in the model as built for the task."""
    model_type: str
    max_positions: int | None
    """Longest text in tokens; None when the model has no bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutFile:
    """The held-out file as a job names it."""

    path: Path
    """Where its blob lies."""
    name: str
    """What the operator calls it."""
    table_format: TableFormat
    text_column: str
    label_column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How good a version is on the held-out texts."""

    accuracy: float
    """Share of right answers, 0 to 1."""
    loss: float
    """Mean cross-entropy in nats."""
    examples: int
