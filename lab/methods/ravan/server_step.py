"""What the server makes of a round's mean deltas before it adds them to the heads; the classifier takes its own as is.

Exactness is untouched: a step is a function of the exact mean, computed once at headquarters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ravan.ids import BlockId, BlockKind

Array = NDArray[np.float64]
Deltas = Mapping[BlockId, Array]

_SECOND_MOMENT: Final = 0.99
_ADAPTIVITY: Final = 1e-3
"""beta_2 and tau of FedAdam (Reddi et al. 2021, arXiv 2003.00295, section 5)."""


class ServerOptimiser(StrEnum):
    """Which rule turns mean deltas into steps."""

    NONE = "none"
    """FedAvg: the mean itself."""
    MOMENTUM = "momentum"
    """Heavy ball over rounds (Hsu et al. 2019, arXiv 1909.06335)."""
    ADAM = "adam"
    MUON = "muon"
    """Momentum whose matrix is made orthogonal, at the norm that it had (Jordan et al. 2024)."""


class ServerStep(ABC):
    """A rule with whatever it remembers of earlier rounds, for each head."""

    def __init__(self, rate: float, momentum: float) -> None:
        self.rate, self.momentum = rate, momentum
        self._velocity: dict[BlockId, Array] = {}

    def take(self, means: Deltas) -> dict[BlockId, Array]:
        """Return the step of every block that has a mean delta; a head without one keeps what it remembers."""
        return {
            block: self.of_head(block, mean) if block.kind is BlockKind.HEAD else mean for block, mean in means.items()
        }

    @abstractmethod
    def of_head(self, block: BlockId, mean: Array) -> Array:
        """Return one head's step."""

    def velocity(self, block: BlockId, mean: Array) -> Array:
        """Return momentum x last velocity + mean, and remember it."""
        self._velocity[block] = self.momentum * self._velocity.get(block, np.zeros_like(mean)) + mean
        return self._velocity[block]


class Plain(ServerStep):
    """The mean, times the rate."""

    def of_head(self, block: BlockId, mean: Array) -> Array:  # noqa: ARG002 - remembers nothing
        """Return one head's step."""
        return self.rate * mean


class Momentum(ServerStep):
    """The velocity, times the rate."""

    def of_head(self, block: BlockId, mean: Array) -> Array:
        """Return one head's step."""
        return self.rate * self.velocity(block, mean)


class Adam(ServerStep):
    """FedAdam without bias correction, as its paper has it."""

    def __init__(self, rate: float, momentum: float) -> None:
        super().__init__(rate, momentum)
        self._squares: dict[BlockId, Array] = {}

    def of_head(self, block: BlockId, mean: Array) -> Array:
        """Return one head's step."""
        first = self.velocity(block, (1 - self.momentum) * mean)
        known = self._squares.get(block, np.zeros_like(mean))
        self._squares[block] = _SECOND_MOMENT * known + (1 - _SECOND_MOMENT) * mean**2
        return self.rate * first / (np.sqrt(self._squares[block]) + _ADAPTIVITY)


class Muon(ServerStep):
    """U V^T of the velocity U S V^T, with the velocity's Frobenius norm."""

    def of_head(self, block: BlockId, mean: Array) -> Array:
        """Return one head's step."""
        velocity = self.velocity(block, mean)
        u, s, vt = np.linalg.svd(velocity)
        step: Array = self.rate * float(np.linalg.norm(s)) / np.sqrt(len(s)) * (u @ vt)
        return step


STEPS: Final[Mapping[ServerOptimiser, type[ServerStep]]] = {
    ServerOptimiser.NONE: Plain,
    ServerOptimiser.MOMENTUM: Momentum,
    ServerOptimiser.ADAM: Adam,
    ServerOptimiser.MUON: Muon,
}
