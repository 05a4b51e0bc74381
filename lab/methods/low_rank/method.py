"""What all methods share that train LoRA factors: local training, first weights, evaluation, and counting bytes."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lab.federation.schedule import Purpose, generator_for
from lab.methods.dense import Dense, count_numbers, first_dense, load_dense, mean_dense, read_dense
from lab.methods.drafting import adapted_matrices
from lab.methods.low_rank.factors import SCALE, Adapter, draw_factors
from lab.methods.low_rank.layer import attached, shift, trained
from lab.methods.method import Bench, Client, Method
from lab.methods.traffic import SUMMED
from ravan.adapters.model import TrainedParameters


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LowRankUpdate:
    """What one client trained."""

    adapter: Adapter
    dense: Dense


@dataclass(frozen=True, slots=True)
class Sides:
    """Which factors train in a round."""

    b: bool
    a: bool


class LowRankMethod(Method):
    """A method whose clients train B and A, or B alone, of every adapted matrix.

    Where clients' capacities differ and the method knows one rank alone, that is the weakest client's; the option
    `rank_share` sets another part of the budget.
    """

    options: ClassVar[frozenset[str]] = Method.options | {"rank_share"}
    trains_a: ClassVar[bool] = True
    ranks_differ: ClassVar[bool] = False
    """Whether each client may have a rank of its own."""
    upload_width: ClassVar[int] = SUMMED

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.sizes = {name: (out, inputs) for name, out, inputs in adapted_matrices(bench)}
        self.adapter: Adapter = self.draw_adapter(0)
        self.offsets: dict[str, Tensor] = {}
        """What has been added to weights for good."""
        self.dense = first_dense(bench)
        self._recent: deque[tuple[dict[str, Tensor], Dense]] = deque(maxlen=self.averaged)

    @abstractmethod
    def combine(self, updates: Sequence[LowRankUpdate], round_number: int) -> None:
        """Take the next adapter from the clients' ones; the dense parameters are averaged already."""

    def play(self, round_number: int, cohort: Sequence[Client]) -> None:
        """Let everybody train from the same state, then combine."""
        updates = [self._train_one(client, round_number) for client in cohort]
        self.dense = mean_dense([update.dense for update in updates])
        self.combine(updates, round_number)
        if self.averaged > 1:
            self._recent.append((self._whole_offsets(), self.dense))

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Put adapter and dense parameters into the model, or the mean that the last states make of every weight."""
        adapter, offsets, dense = self.adapter, self.offsets, self.dense
        if self._recent:
            adapter = {name: factors.cut(0) for name, factors in adapter.items()}
            offsets = mean_dense([each for each, _ in self._recent])
            dense = mean_dense([each for _, each in self._recent])
        with attached(self.task.model, adapter, offsets):
            load_dense(self.task.model, dense)
            yield

    def _whole_offsets(self) -> dict[str, Tensor]:
        """Return what each adapted weight has more than the base model's."""
        return {name: shift(self.offsets, name, SCALE * f.product()) for name, f in self.adapter.items()}

    def budget_rank(self, out_features: int, in_features: int) -> int:
        """Return the rank whose trained numbers are the run's budget; no more than the matrix can have."""
        whole = self.bench.cell.training.lora_rank
        affordable = whole if self.trains_a else whole * (out_features + in_features) // out_features
        return min(affordable, out_features, in_features)

    def rank_of(self, out_features: int, in_features: int, capacity: float) -> int:
        """Return the rank that a capacity allows, at least 1."""
        return max(1, int(round(capacity * self.budget_rank(out_features, in_features), 9)))

    def draw_adapter(self, generation: int) -> Adapter:
        """Return first factors of the rank that all clients share, or of the largest one."""
        share = float(self.bench.cell.option("rank_share", 1.0 if self.ranks_differ else self.bench.weakest))
        generator = generator_for(self.bench.cell.seed, Purpose.ADAPTER, generation)
        return {
            name: draw_factors(out, inputs, self.rank_of(out, inputs, share), generator)
            for name, (out, inputs) in self.sizes.items()
        }

    def adapter_for(self, client: Client) -> Adapter:
        """Return what a client begins with."""
        if not self.ranks_differ:
            return self.adapter
        return {
            name: factors.cut(min(factors.rank, self.rank_of(*self.sizes[name], client.capacity)))
            for name, factors in self.adapter.items()
        }

    def download_numbers(self, adapter: Adapter, client: Client) -> int:  # noqa: ARG002 - all alike here
        """Return how many numbers a client that begins with this adapter is sent, classifier left out."""
        return sum(factors.b.numel() + factors.a.numel() for factors in adapter.values())

    def upload_numbers(self, adapter: Adapter, sides: Sides) -> int:
        """Return how many numbers a client sends back, classifier left out."""
        return sum(sides.b * factors.b.numel() + sides.a * factors.a.numel() for factors in adapter.values())

    def sides_of(self, round_number: int) -> Sides:  # noqa: ARG002 - all rounds alike here
        """Return which factors train in a round."""
        return Sides(b=True, a=self.trains_a)

    def offsets_for(self, adapter: Adapter) -> Mapping[str, Tensor]:  # noqa: ARG002 - all alike here
        """Return what is added to the weights of a client that begins with this adapter."""
        return self.offsets

    def _train_one(self, client: Client, round_number: int) -> LowRankUpdate:
        model, adapter, sides = self.task.model, self.adapter_for(client), self.sides_of(round_number)
        with attached(model, adapter, self.offsets_for(adapter)) as layers:
            heads, dense = trained(layers, b=sides.b, a=sides.a), load_dense(model, self.dense)
            parameters = TrainedParameters(heads=heads, dense=tuple(dense))
            self.bench.train_locally(self.task, parameters, client, round_number)
            update = LowRankUpdate(
                adapter={name: layer.factors() for name, layer in layers.items()},
                dense=read_dense(self.task),
            )
        self.ledger.download(self.download_numbers(adapter, client) + count_numbers(self.dense))
        self.ledger.upload(self.upload_numbers(adapter, sides) + count_numbers(self.dense), self.upload_width)
        return update
