"""One run of one method: everything that its outcome depends on, and a name that follows from it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Final, Self

from lab.federation.capacity import Capacities
from lab.federation.partition import Split

VERSION: Final = 4
"""Raised whenever equal cells would come out otherwise than before, so that old outcomes are not taken for new ones."""

Option = bool | int | float | str


class Part(StrEnum):
    """Examples that a run is judged by."""

    VALIDATION = "validation"
    """While something is still chosen."""
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Federation:
    """Who takes part and what each has."""

    split: Split
    clients: int
    per_round: int
    capacities: Capacities = Capacities.EQUAL
    alpha: float = 0.3
    """Of the Dirichlet split; means nothing elsewhere."""

    def __str__(self) -> str:
        split = f"{self.split}({self.alpha:g})" if self.split is Split.DIRICHLET else str(self.split)
        return f"{split}, {self.per_round} of {self.clients}, {self.capacities}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What all methods have in common."""

    rounds: int
    steps: int
    batch_size: int
    dense_learning_rate: float
    """The classifier is trained by every method, from the same first weights, at this rate."""
    learning_rate_decay: float
    lora_rank: int
    """The budget: each adapted matrix has as many uploaded numbers as LoRA of this rank."""
    average_last: int
    """Rounds at the end whose scores are averaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run."""

    task: str
    federation: Federation
    training: Training
    method: str
    options: tuple[tuple[str, Option], ...]
    """What this method is told beside its learning rate, by name."""
    learning_rate: float
    seed: int
    part: Part

    @property
    def key(self) -> str:
        """Return the name that outcomes are kept under: equal for equal runs, and no others."""
        return hashlib.sha256(json.dumps([VERSION, asdict(self)], sort_keys=True).encode()).hexdigest()[:16]

    def with_rounds(self, rounds: int) -> Self:
        """Return the same run cut or prolonged."""
        return replace(self, training=replace(self.training, rounds=rounds))

    def option(self, name: str, default: Option) -> Option:
        """Return what the method is told under a name."""
        return dict(self.options).get(name, default)
