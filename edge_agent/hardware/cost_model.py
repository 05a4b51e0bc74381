"""What training the top matrices takes: from shapes where shapes say it, from measured steps where only the PC knows.

Over the loaded model a PC holds for a whole round: a folded weight for each matrix that does not train, and bases,
cores, gradients and moments for each that does. Over that a step peaks either in the forward pass of a frozen layer,
or where the backward pass begins, with all kept activations and some room to work. Beside weights in bfloat16 or int8
nothing is folded: bases are held for all matrices, and the measured steps have them. Pure.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from edge_agent.hardware.kept import Kept
from ravan.adapters.arithmetic import Path, Shape, choose_path
from ravan.ids import Digest
from ravan.manifest.plan import JobPlan, Matrix, Precision
from ravan.manifest.profile import JobProfile

_NUMBER: Final = 4
"""Bytes of a float32."""

_NARROW_NUMBER: Final = 2
"""Bytes of a bfloat16."""

_COPIES: Final = 4
"""A trained number has a gradient and AdamW's two moments beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """Of one step."""

    extra_bytes: int
    """Peak over the loaded idle model."""
    seconds: float

    def times(self, factor: float) -> StepCost:
        """Return the cost of so many times the batch."""
        return StepCost(extra_bytes=round(self.extra_bytes * factor), seconds=self.seconds * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What steps took on this PC."""

    least: int
    """How many matrices from the top `floor` trains: 0, or 1 where all that trains is heads."""
    floor: StepCost
    """Of a step that trains the dense blocks alone or nearly so, with no head folded."""
    matrices: int
    """How many from the top `reached` trains."""
    reached: StepCost
    preparing_bytes: int
    """Working room for the bases of one matrix."""


class CostModel:
    """Predict for one plan with one size of batch."""

    def __init__(self, plan: JobPlan, kept: Kept, batch_size: int) -> None:
        """Take what a step keeps for one example."""
        downwards = plan.matrices[::-1]
        activations = (batch_size * kept.bytes_from[matrix.ordinal] for matrix in downwards)
        # All by how many matrices from the top; bytes.
        self._activations = [0, *itertools.accumulate(activations, max)]
        shapes = [_shape_of(plan, matrix, batch_size * kept.rows[matrix.ordinal]) for matrix in downwards]
        wide, none = plan.precision is Precision.FLOAT32, [0] * (len(shapes) + 1)
        self._weights = _running(_NUMBER * each.out_features * each.in_features for each in shapes) if wide else none
        self._merged = _running(_merged_bytes(shape) for shape in shapes) if wide else none
        self._cores = _running(_NUMBER * _COPIES * shape.heads * (shape.rank**2 + 1) for shape in shapes)
        bases = _running(shape.width * (shape.out_features + shape.in_features) for shape in shapes)
        self._bases = [_NUMBER * numbers for numbers in bases] if wide else none
        self._resting_bases = 0 if wide else _NARROW_NUMBER * bases[-1]

    def working_bytes(self, extra_bytes: int, matrices: int) -> int:
        """Return the room to work in that a measured step of the top `matrices` took beside what it held."""
        return max(0, extra_bytes - self._training_bytes(matrices))

    def reached_bytes(self, matrices: int, working: int) -> int:
        """Return the extra peak of a step that trains the top `matrices`, with no other head folded."""
        return self._training_bytes(matrices) + working

    def profile(self, measured: Measured, *, plan_digest: Digest, loaded_bytes: int) -> JobProfile:
        """Return the profile to report."""
        count = len(self._weights) - 1
        # Who can hold so many may be asked for fewer, so fewer never take more.
        extra = list(itertools.accumulate((self._extra_bytes(k, measured) for k in range(count + 1)), max))
        seconds = [self._seconds(k, measured) for k in range(count + 1)]
        return JobProfile(
            plan_digest=plan_digest,
            ram_loaded_bytes=loaded_bytes,
            ram_floor_bytes=extra[0],
            ram_per_matrix_bytes=(extra[-1] - extra[0]) // max(1, count),
            step_floor_s=seconds[0],
            step_per_matrix_s=(seconds[-1] - seconds[0]) / max(1, count),
            ram_reached_bytes=tuple(extra[1:]),
            step_reached_s=tuple(seconds[1:]),
        )

    def _training_bytes(self, matrices: int) -> int:
        return self._bases[matrices] + self._cores[matrices] + self._merged[matrices] + self._activations[matrices]

    def _extra_bytes(self, matrices: int, measured: Measured) -> int:
        """Return the extra peak in any round but the first, which has nothing to fold."""
        folded = self._weights[-1] - self._weights[matrices]
        peak = measured.floor.extra_bytes
        if matrices:
            working = self.working_bytes(measured.reached.extra_bytes, measured.matrices)
            peak = max(peak, self.reached_bytes(matrices, working))
        # Bases are drawn for folding too, the last when nearly everything else is in place.
        drawing = self._resting_bases + self._bases[matrices] + measured.preparing_bytes
        return folded + max(peak, drawing)

    def _seconds(self, matrices: int, measured: Measured) -> float:
        """Return the time of a step: gradients pass through what keeps activations, and that takes their share."""
        least = self._activations[measured.least]
        full = self._activations[measured.matrices] - least
        share = max(0, self._activations[matrices] - least) / full if full else 0.0
        return measured.floor.seconds + share * max(0.0, measured.reached.seconds - measured.floor.seconds)


def _running(values: Iterable[int]) -> list[int]:
    return list(itertools.accumulate(values, initial=0))


def _shape_of(plan: JobPlan, matrix: Matrix, rows: int) -> Shape:
    rank = plan.adapter.for_matrix(matrix).rank
    return Shape(rows, matrix.out_features, matrix.in_features, plan.adapter.heads, rank)


def _merged_bytes(shape: Shape) -> int:
    """Return what a layer keeps of its merged weight."""
    keeps = choose_path(shape) is Path.MERGED and not shape.merges_again
    return _NUMBER * shape.out_features * shape.in_features if keeps else 0
