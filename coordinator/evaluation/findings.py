"""What comes out of the evaluation process; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from ravan.ids import Digest
from ravan.manifest.plan import TrainingSettings


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
    training: TrainingSettings
    """The job's settings, with what the model decides filled in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedBases:
    """What leads a job's bases, and what the bases are."""

    directions: Digest
    bases: tuple[Digest, ...]
    """Of each matrix, by ordinal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How good a version is on the held-out examples."""

    accuracy: float
    """Share of right answers, 0 to 1."""
    loss: float
    """Mean cross-entropy in nats."""
    examples: int
