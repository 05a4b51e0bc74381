"""Ravan: heads with fixed bases; clients train cores and scales and send products, the server takes the mean."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, Final

from coordinator.allocation.clips import adapt_clips, initial_clips, specify_blocks
from coordinator.evaluation.alignment import look_for_directions
from edge_agent.data.batches import deal_batches
from edge_agent.training.outcome import TrainingOutcome
from edge_agent.training.trainer import TrainingOrder, train
from lab.federation.schedule import Purpose, generator_for
from lab.methods.drafting import draft_plan
from lab.methods.method import Bench, Client, Method
from lab.methods.ravan.allotment import Allotment, allot
from lab.methods.ravan.secure_sum import sum_updates
from lab.methods.ravan.server_step import STEPS, ServerOptimiser
from ravan.adapters.basis import Basis, BasisSource, drawn_bases
from ravan.adapters.model import inject, remove
from ravan.adapters.state import ModelState, apply_mean, block_shapes, initial_state, mean_state
from ravan.ids import BlockId, Digest, SiteId
from ravan.manifest.assignment import Assignment, Member, Suite, Weighting
from ravan.manifest.plan import BasisKind, Denominator, JobPlan, Matrix
from ravan.secagg.combine import RoundSum
from ravan.secagg.packing import packed_bytes

_CLIP: Final = 8.0
_RING_BITS: Final = 24
_WEIGHT_LIMIT, _WEIGHT_UNIT = 255, 16
"""Defaults of a job file."""


class Ravan(Method):
    """The paper's method as the product does it.

    `share` is the part of the budget that goes into heads, `threshold` the least number of clients of a head, `server`
    what headquarters does with the mean; `weighted` has clients count by their examples, and `masked` leads every round
    through the whole protocol.
    """

    options: ClassVar[frozenset[str]] = Method.options | {
        "heads",
        "share",
        "basis",
        "train_scales",
        "denominator",
        "allotment",
        "threshold",
        "clip",
        "ring_bits",
        "server",
        "server_rate",
        "server_momentum",
        "weighted",
        "masked",
    }

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        cell = bench.cell
        self.plan = self.draft()
        self.bases: BasisSource = kept_bases(self._first_bases())
        self.state: ModelState = initial_state(self.plan)
        self.reset_clips()
        optimiser = ServerOptimiser(str(cell.option("server", ServerOptimiser.NONE)))
        self._server = STEPS[optimiser](
            float(cell.option("server_rate", 1.0)), float(cell.option("server_momentum", 0.9))
        )
        self._ring_bits = int(cell.option("ring_bits", _RING_BITS))
        self._threshold = int(cell.option("threshold", 1))
        self._allotment = Allotment(str(cell.option("allotment", Allotment.TOP)))
        cells = {"cell_minimum": self._threshold, "cell_threshold": self._threshold}
        weighted = Weighting(limit=_WEIGHT_LIMIT, unit=_WEIGHT_UNIT, **cells)
        self._weighting = weighted if cell.option("weighted", False) else None
        self._recent: deque[ModelState] = deque(maxlen=self.averaged)

    def play(self, round_number: int, cohort: Sequence[Client]) -> None:
        """Assign, train, add up, and add the mean deltas."""
        assignment = self._assign(round_number, cohort)
        outcomes = [
            self.train_one(client, round_number, assignment.blocks_of(index)) for index, client in enumerate(cohort)
        ]
        roundings = [
            generator_for(self.bench.cell.seed, Purpose.ROUNDING, round_number, client.index) for client in cohort
        ]
        masked = bool(self.bench.cell.option("masked", False))
        total = sum_updates(assignment, outcomes, self.plan.denominator, roundings, masked=masked)
        self._count(assignment)
        self._advance(total)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Put all heads to rest in the model, as the mean of the last states has them."""
        model, states = self.task.model, self._recent if self.averaged > 1 else ()
        inject(model, self.plan, mean_state(states or (self.state,)), frozenset(), self.bases)
        try:
            yield
        finally:
            remove(model)

    def train_one(self, client: Client, round_number: int, trained: frozenset[BlockId]) -> TrainingOutcome:
        """Train a client's blocks by the agent's own code."""
        order = TrainingOrder(
            plan=self.plan,
            round_number=round_number,
            state=self.state,
            trained=trained,
            bases=self.bases,
            held_examples=len(client.shard),
        )
        return train(
            self.bench.task_of(self.task, client),
            order,
            lambda first: deal_batches(client.shard, self.plan.training.batch_size, client.batch_seed, first=first),
            on_step=lambda _: None,
            cancelled=threading.Event(),
        )

    def train_alone(self, client: Client, round_number: int) -> ModelState:
        """Train all blocks on one client's examples and return the state that comes of it, added to nobody's."""
        everything = frozenset((*self.plan.head_ids(), *self.plan.dense_ids()))
        deltas = self.train_one(client, round_number, everything).deltas
        return apply_mean(self.state, {block: delta.astype("float64") for block, delta in deltas.items()})

    def reset_clips(self) -> None:
        """Let every block's clip begin again where a job file has it begin."""
        self._clips = initial_clips(self.plan, float(self.bench.cell.option("clip", _CLIP)))

    def draft(self) -> JobPlan:
        """Return the run's plan, whose bases are the product's for the run's seed."""
        cell = self.bench.cell
        return draft_plan(
            self.bench,
            heads=int(cell.option("heads", 4)),
            basis=BasisKind(str(cell.option("basis", BasisKind.GRAM_SCHMIDT))),
            train_scales=bool(cell.option("train_scales", True)),
            denominator=Denominator(str(cell.option("denominator", Denominator.TRAINERS))),
            share=float(cell.option("share", 1.0)),
        )

    def _first_bases(self) -> BasisSource:
        """Return the bases that the run begins with; what leads them is sent to every client."""
        if not self.plan.adapter.basis.is_led:
            return drawn_bases(self.plan.adapter)
        found = look_for_directions(self.task, self.plan, self.bench.lab.validation)
        self.ledger.download(sum(each.left.size + each.right.size for each in found.values()) * len(self.bench.shards))
        return drawn_bases(self.plan.adapter, lambda matrix: found[matrix.ordinal])

    def _assign(self, round_number: int, cohort: Sequence[Client]) -> Assignment:
        tiles, tiles_of = allot(
            self.plan,
            cohort,
            self.state,
            kind=self._allotment,
            threshold=self._threshold,
            round_number=round_number,
        )
        members = tuple(
            Member(index=i, site=SiteId(str(c.index)), identity_key=bytes(32), tiles=tiles_of[c.index])
            for i, c in enumerate(cohort)
        )
        return Assignment(
            run_id=self.plan.run_id,
            job_id=self.plan.job_id,
            round_number=round_number,
            plan_digest=Digest(bytes(32)),
            state_digest=Digest(bytes(32)),
            model_digest=Digest(bytes(32)),
            suite=Suite.AES_128_CTR,
            ring_bits=self._ring_bits,
            bundle_threshold=self._threshold,
            weighting=self._weighting,
            blocks=specify_blocks(self.plan, self._clips),
            tiles=tiles,
            members=members,
        )

    def _advance(self, total: RoundSum) -> None:
        shapes = block_shapes(self.plan)
        means = {block: summed.mean.reshape(shapes[block]) for block, summed in total.blocks.items()}
        self.state = apply_mean(self.state, self._server.take(means))
        flags = {block: summed.clipped for block, summed in total.blocks.items()}
        counts = {block: summed.count for block, summed in total.blocks.items()}
        self._clips = adapt_clips(self._clips, flags, counts)
        self._recent.append(self.state)

    def forget_recent(self) -> None:
        """Begin the mean over states anew: heads of other bases cannot be added up."""
        self._recent.clear()

    def _count(self, assignment: Assignment) -> None:
        """Count the numbers of each payload in the round's ring, and the whole model version that each member fetches.

        Flags and canaries, some bytes a block, are left out, as what rivals would need in their place is.
        """
        lengths = {spec.block_id: spec.length for spec in assignment.blocks}
        for member in assignment.members:
            numbers = sum(lengths[block] for block in assignment.blocks_of(member.index))
            self.ledger.upload(numbers, packed_bytes(assignment.ring_bits))
            self.ledger.download(self.download_numbers(int(member.site)))

    def download_numbers(self, client: int) -> int:  # noqa: ARG002 - all alike here
        """Return how many numbers a client is sent: all heads and dense blocks."""
        return sum(math.prod(shape) for shape in block_shapes(self.plan).values())


def kept_bases(source: BasisSource) -> BasisSource:
    """Return a source that draws each matrix's bases once: every client of a simulation asks for the same."""
    drawn: dict[int, Basis] = {}

    def kept(matrix: Matrix) -> Basis:
        if matrix.ordinal not in drawn:
            drawn[matrix.ordinal] = source(matrix)
        return drawn[matrix.ordinal]

    return kept
