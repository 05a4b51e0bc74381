"""Unfinished training on disk: after a crash it goes on from there and ends with the same bits.

What is kept is all that changes from step to step: the trained parameters, the optimiser's moments, how many
batches were dealt and what was counted. The order of examples follows from the round's seed, and nothing else in a
step is random (`edge_agent.training.trainer`).
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog
import torch
from torch import Tensor
from torch.optim import Optimizer

from edge_agent.training.hashed_file import read_hashed, write_hashed
from ravan.errors import ResourceError
from ravan.ids import BlockId

log = structlog.stdlib.get_logger(__name__)

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Where training was."""

    done: int
    """Steps."""
    length: int
    """To which batches are padded; other padding would give other bits."""
    parameters: tuple[Tensor, ...] = field(repr=False)
    """In the order in which the optimiser has them."""
    optimiser: Mapping[str, Any] = field(repr=False)
    tally: tuple[float, ...] = field(repr=False)
    scores: Mapping[BlockId, float] = field(default_factory=dict, repr=False)


class CheckpointFile:
    """The checkpoint of one round's training; each replaces the one before."""

    def __init__(
        self,
        path: Path,
        origin: Sequence[int],
        *,
        every_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take where it is, numbers that stand for the data that are learnt from, and the least time between two."""
        self._path = path
        self._origin = list(origin)
        self._every_s = every_s
        self._clock = clock
        self._written_at = clock()

    def is_due(self) -> bool:
        """Tell whether the last one is old enough."""
        return self._clock() - self._written_at >= self._every_s

    def write(self, checkpoint: Checkpoint) -> None:
        """Replace the file; where there is no room, the last one stays and training goes on. Blocks on the disk."""
        content = {
            "format": _FORMAT,
            "origin": self._origin,
            "done": checkpoint.done,
            "length": checkpoint.length,
            "parameters": list(checkpoint.parameters),
            "optimiser": dict(checkpoint.optimiser),
            "tally": list(checkpoint.tally),
            "scores": {f"{head.pack():016x}": score for head, score in checkpoint.scores.items()},
        }
        file = io.BytesIO()
        torch.save(content, file)
        try:
            write_hashed(self._path, file.getvalue())
        except ResourceError as error:
            log.warning("training goes on without a new checkpoint", why=str(error), next_step=error.next_step)
        self._written_at = self._clock()

    def read(self) -> Checkpoint | None:
        """Return the last one; None when there is none, it is damaged, or it belongs to other data. Blocks."""
        raw = read_hashed(self._path)
        if raw is None:
            return None
        content = torch.load(io.BytesIO(raw), weights_only=True)
        if content["format"] != _FORMAT or content["origin"] != self._origin:
            return None
        return Checkpoint(
            done=content["done"],
            length=content["length"],
            parameters=tuple(content["parameters"]),
            optimiser=content["optimiser"],
            tally=tuple(content["tally"]),
            scores={BlockId.unpack(int(head, 16)): score for head, score in content["scores"].items()},
        )


def trained_tensors(optimiser: Optimizer) -> tuple[Tensor, ...]:
    """Return all that an optimiser changes, in its order."""
    return tuple(parameter.detach() for group in optimiser.param_groups for parameter in group["params"])


def restore(checkpoint: Checkpoint, optimiser: Optimizer) -> bool:
    """Put parameters and optimiser back; return False, with nothing changed, where the shapes are others."""
    parameters = trained_tensors(optimiser)
    if [each.shape for each in parameters] != [each.shape for each in checkpoint.parameters]:
        return False
    with torch.no_grad():
        for parameter, kept in zip(parameters, checkpoint.parameters, strict=True):
            parameter.copy_(kept)
    optimiser.load_state_dict(dict(checkpoint.optimiser))
    return True
