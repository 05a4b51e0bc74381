"""Ravan with moving bases: every few rounds all heads go into the weights for good, and new ones are opened.

New bases are drawn from the seed, or lead with the directions in which the clients' mean gradient is largest, which
the server finds in a sum of thin sketches (`ravan.adapters.alignment`). Products stay exact: all clients share the new
bases, and what has been learnt is in the weights. A newcomer rebuilds the weights from the base, the bases and the
folded cores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from edge_agent.data.batches import deal_batches
from edge_agent.training.trainer import make_optimiser, take_step
from lab.federation.schedule import Purpose, generator_for
from lab.methods.method import Bench, Client
from lab.methods.moving_ravan.bases import fill_basis
from lab.methods.ravan.method import Ravan, kept_bases
from ravan.adapters.alignment import (
    Array,
    Probe,
    Sketch,
    add_sketches,
    draw_probe,
    leading_directions,
    take_sketch,
)
from ravan.adapters.basis import Basis, BasisSource, drawn_bases
from ravan.adapters.model import inject, remove, trained_parameters
from ravan.adapters.state import initial_state
from ravan.ids import BlockKind
from ravan.manifest.plan import Matrix
from ravan.tasks.task_model import TaskModel


class Move(StrEnum):
    """Where new bases point."""

    RANDOM = "random"
    ALIGNED = "aligned"
    """With the mean gradient of the cohort, by sketches that it sends."""
    HELD_OUT = "held_out"
    """With the gradient of the examples that headquarters holds, which costs nobody an upload."""


class MovingRavan(Ravan):
    """Bases move in round `first` and then `every` so many; `move` says where to.

    Aligned bases lead with so many `directions`, and the rest of the budget stays drawn; `width` columns of each sketch
    travel, of the gradient over `probe_batches`. Without `folds` what heads had learnt is dropped when bases move.
    Headquarters looks at its own examples through a classifier that it trains on them for `warm_steps` and throws away.
    """

    options: ClassVar[frozenset[str]] = Ravan.options | {
        "move",
        "every",
        "first",
        "width",
        "directions",
        "probe_batches",
        "folds",
        "warm_steps",
    }

    def __init__(self, bench: Bench) -> None:
        self._offsets: dict[str, Tensor] = {}
        self._folded: list[int] = []
        """How many numbers the cores of each past epoch hold; none where they were zero."""
        self._followed: dict[int, int] = {}
        """How many epochs' cores a client has folded."""
        self._is_fresh = False
        """Whether all open heads are zero, as everybody knows of a new epoch."""
        super().__init__(bench)
        option = bench.cell.option
        self._move = Move(str(option("move", Move.ALIGNED)))
        self._every = int(option("every", 3))
        self._first = int(option("first", 1))
        self._width = int(option("width", 16))
        self._directions = int(option("directions", self._width))
        self._probe_batches = int(option("probe_batches", 4))
        self._folds = bool(option("folds", True))
        self._warm_steps = int(option("warm_steps", 0))

    def play(self, round_number: int, cohort: Sequence[Client]) -> None:
        """Move first where it is time, then play as Ravan does."""
        if round_number >= self._first and (round_number - self._first) % self._every == 0:
            self._move_bases(round_number, cohort)
        with self._shifted():
            super().play(round_number, cohort)
        self._is_fresh = False
        self._followed.update((client.index, len(self._folded)) for client in cohort)

    def download_numbers(self, client: int) -> int:
        """Return the open heads, if they are not new, and the last cores of the epochs that the client has missed."""
        heads = self._head_numbers()
        missed = sum(self._folded[self._followed.get(client, 0) :])
        return super().download_numbers(client) - (heads if self._is_fresh else 0) + missed

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Put folded and open heads into the model."""
        with self._shifted(), super().installed():
            yield

    def _move_bases(self, round_number: int, cohort: Sequence[Client]) -> None:
        """Fold all heads, and open those of the next epoch."""
        if self._folds:
            self._fold()
        dense = {block: self.state[block] for block in self.plan.dense_ids()}
        directions = self._find_directions(round_number, cohort)
        adapter = replace(self.plan.adapter, epoch=self.plan.adapter.epoch + 1)
        self.plan = replace(self.plan, adapter=adapter)
        self.bases = kept_bases(_led(drawn_bases(adapter), directions))
        self.state = {**initial_state(self.plan), **dense}
        self.reset_clips()
        self.forget_recent()
        self._is_fresh = True

    def _head_numbers(self) -> int:
        return sum(self.state[block].size for block in self.plan.head_ids())

    def _find_directions(self, round_number: int, cohort: Sequence[Client]) -> dict[str, tuple[Array, Array]]:
        """Return the (left, right) directions that each matrix's new bases lead with; none where they are drawn."""
        match self._move:
            case Move.RANDOM:
                return {}
            case Move.ALIGNED:
                directions = self._sketched_directions(round_number, cohort)
            case Move.HELD_OUT:
                directions = self._held_out_directions()
        # Everybody has to know the new bases; the drawn part of them follows from the seed.
        numbers = sum(left.size + right.size for left, right in directions.values())
        self.ledger.download(numbers * self.bench.schedule.clients)
        return directions

    def _sketched_directions(self, round_number: int, cohort: Sequence[Client]) -> dict[str, tuple[Array, Array]]:
        """Return the leading directions of each matrix's gradient, from the cohort's summed sketches."""
        generator = generator_for(self.bench.cell.seed, Purpose.SKETCH, round_number)
        probes = {
            m.name: draw_probe(m.out_features, m.in_features, self._width, generator.standard_normal)
            for m in self.plan.matrices
        }
        with self._without_heads():
            taken = [self._sketch(client, probes) for client in cohort]
        return {
            name: leading_directions(add_sketches([each[name] for each in taken]), probe, self._directions)
            for name, probe in probes.items()
        }

    def _held_out_directions(self) -> dict[str, tuple[Array, Array]]:
        """Return the leading directions of each matrix's gradient over all that headquarters holds."""
        validation = self.bench.lab.validation
        batches = (validation.gather(rows) for rows in _in_parts(len(validation), self.plan.training.batch_size))
        with self._without_heads():
            self._warm_classifier()
            gradients = self._summed_gradients(self.task, batches)
        directions = {}
        for name, gradient in gradients.items():
            u, _, vt = np.linalg.svd(gradient)
            directions[name] = u[:, : self._directions], vt[: self._directions]
        return directions

    def _warm_classifier(self) -> None:
        """Train the classifier that is in the model, on what headquarters holds; the state keeps its own."""
        inject(self.task.model, self.plan, self.state, frozenset(self.plan.dense_ids()), self.bases)
        optimiser = make_optimiser(trained_parameters(self.task.model, self.plan), self.plan.training, 1)
        validation = self.bench.lab.validation
        seed = int(generator_for(self.bench.cell.seed, Purpose.SKETCH, 0).integers(2**62))
        for batch in islice(deal_batches(validation, self.plan.training.batch_size, seed), self._warm_steps):
            take_step(self.task, optimiser, batch)
        remove(self.task.model)

    @contextmanager
    def _without_heads(self) -> Iterator[None]:
        """Put folded heads and the classifier into the model, and leave its weights bare, to be differentiated by."""
        with self._shifted():
            inject(self.task.model, self.plan, self.state, frozenset(), self.bases)
            # Folded heads are in the weights; what injecting was for is the classifier.
            remove(self.task.model)
            yield

    def gradients(self, client: Client) -> dict[str, Array]:
        """Return the summed gradients of a client's loss by the adapted weights, over its first batches."""
        batches = deal_batches(client.shard, self.plan.training.batch_size, client.batch_seed)
        return self._summed_gradients(self.bench.task_of(self.task, client), islice(batches, self._probe_batches))

    def _summed_gradients(self, task: TaskModel[Any], batches: Iterable[Any]) -> dict[str, Array]:
        """Return gradients of the batches' mean losses, added up, by the adapted weights."""
        model = self.task.model
        weights = {matrix.name: model.get_parameter(f"{matrix.name}.weight") for matrix in self.plan.matrices}
        model.requires_grad_(False)
        model.zero_grad(set_to_none=True)
        for weight in weights.values():
            weight.requires_grad_(True)
        for batch in batches:
            loss = task.losses(task.logits(batch), batch).mean()
            loss.backward()  # type: ignore[no-untyped-call]
        found = {
            name: (torch.zeros_like(weight) if weight.grad is None else weight.grad).double().numpy()
            for name, weight in weights.items()
        }
        model.zero_grad(set_to_none=True)
        model.requires_grad_(False)
        return found

    def _sketch(self, client: Client, probes: Mapping[str, Probe]) -> dict[str, Sketch]:
        sketches = {name: take_sketch(gradient, probes[name]) for name, gradient in self.gradients(client).items()}
        self.ledger.upload(sum(sketch.numbers for sketch in sketches.values()))
        return sketches

    def _fold(self) -> None:
        """Put all heads into the offsets of the weights, and set them to zero."""
        learnt = any(self.state[block].any() for block in self.plan.head_ids())
        self._folded.append(self._head_numbers() if learnt else 0)
        for matrix in self.plan.matrices:
            basis, ids = self.bases(matrix), [block for block in self.plan.head_ids() if block.matrix == matrix.ordinal]
            cores = np.stack([self.state[block] for block in ids]).astype(np.float64)
            change = torch.from_numpy(np.einsum("hor,hrs,hsi->oi", basis.b, cores, basis.a))
            known = self._offsets.get(matrix.name)
            self._offsets[matrix.name] = (change if known is None else known.double() + change).float()
        self.state = {
            block: np.zeros_like(array) if block.kind is BlockKind.HEAD else array
            for block, array in self.state.items()
        }

    @contextmanager
    def _shifted(self) -> Iterator[None]:
        """Add what has been folded to the weights, and put the base model's back at the end."""
        model = self.task.model
        offsets = dict(self._offsets)
        originals = {name: model.get_parameter(f"{name}.weight").detach().clone() for name in offsets}
        try:
            for name, offset in offsets.items():
                model.get_parameter(f"{name}.weight").detach().add_(offset)
            yield
        finally:
            for name, original in originals.items():
                model.get_parameter(f"{name}.weight").detach().copy_(original)


def _in_parts(count: int, size: int) -> Iterator[range]:
    for start in range(0, count, size):
        yield range(start, min(count, start + size))


def _led(source: BasisSource, directions: Mapping[str, tuple[Array, Array]]) -> BasisSource:
    """Return bases that lead with a matrix's given directions, where it has any."""

    def led(matrix: Matrix) -> Basis:
        drawn = source(matrix)
        return fill_basis(drawn, *directions[matrix.name]) if matrix.name in directions else drawn

    return led
