"""The orders of a round: see whether the data are still the same, and train."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.hardware.guard import MemoryGuard
from edge_agent.training.outcome_file import write_outcome
from edge_agent.worker.bench import Bench, HeldData, JobFiles
from edge_agent.worker.orders import Call, Order, Progress
from ravan.adapters.state import decode_state
from ravan.data.stamp import Stamp
from ravan.ids import BlockId

if TYPE_CHECKING:
    from edge_agent.training.outcome import TrainingOutcome
    from edge_agent.training.trainer import StepReport, TrainingOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshData(Order[Stamp]):
    """Read a job's examples again if they have changed; the answer is the stamp of those that are held."""

    job: JobFiles

    def carry_out(self, bench: Bench, call: Call) -> Stamp:
        """Raise DataError for whatever is wrong with them, or TrainingCancelledError."""
        return bench.refresh(self.job, call.check).stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRound(Order[Stamp]):
    """Train from a version and write the outcome to a file; the answer is the stamp of the data."""

    job: JobFiles
    round_number: int
    version: Path
    trained: frozenset[BlockId]
    scored: frozenset[BlockId]
    seed: bytes = field(repr=False)
    """Of the order in which examples come."""
    room_bytes: int
    """What the limit leaves over the predicted peak."""
    checkpoint: Path
    checkpoint_s: float
    outcome: Path

    def carry_out(self, bench: Bench, call: Call) -> Stamp:
        """Go on from the checkpoint where there is one.

        Raise OutgrownError, DataError, ResourceError (DISK_FULL) or TrainingCancelledError.
        """
        held = bench.data_of(self.job, call.check)
        write_outcome(self.outcome, self._train(bench, held, call))
        return held.stamp

    def _train(self, bench: Bench, held: HeldData, call: Call) -> TrainingOutcome:
        from edge_agent.data.batches import deal_batches  # noqa: PLC0415 - imports torch
        from edge_agent.training.trainer import train  # noqa: PLC0415 - imports torch
        from ravan.tasks.calibration import calibrate  # noqa: PLC0415 - imports torch

        guard, order = MemoryGuard(bench.limits), self._order(bench, held)
        seed, size = int.from_bytes(self.seed, "big"), self.job.plan.training.batch_size

        def tell(report: StepReport) -> None:
            guard.check(report.cost.extra_peak_bytes)
            call.tell(
                Progress(done=report.done, total=report.total, step=f"{report.done}/{report.total}", cost=report.cost)
            )

        with guard.watching():
            return train(
                calibrate(bench.model_of(self.job), held.encoded, self.job.plan.training.label_frequencies),
                order,
                lambda first: deal_batches(held.encoded, size, seed, length=order.length, first=first),
                on_step=tell,
                cancelled=call.cancelled,
            )

    def _order(self, bench: Bench, held: HeldData) -> TrainingOrder:
        from edge_agent.training.checkpoint import CheckpointFile  # noqa: PLC0415 - imports torch
        from edge_agent.training.lower_part import is_worth_keeping  # noqa: PLC0415 - imports torch
        from edge_agent.training.trainer import TrainingOrder  # noqa: PLC0415 - imports torch
        from ravan.adapters.planned_bases import planned_bases  # noqa: PLC0415 - not needed before a job comes

        plan, data = self.job.plan, held.encoded
        checkpoints = CheckpointFile(self.checkpoint, held.stamp, every_s=self.checkpoint_s)
        left = checkpoints.read()
        model = bench.model_of(self.job).model
        keeping = is_worth_keeping(model, plan, self.trained, data.lengths, self.room_bytes)
        # What is kept of one batch serves in another only where both are padded alike.
        length = left.length if left is not None else int(data.lengths.max()) if keeping else 0
        return TrainingOrder(
            plan=plan,
            round_number=self.round_number,
            state=decode_state(plan, self.version.read_bytes()),
            trained=self.trained,
            bases=planned_bases(plan, self.job.bases),
            held_examples=len(data),
            room_bytes=self.room_bytes if keeping and length else 0,
            scored=self.scored,
            length=length,
            left=left,
            checkpoints=checkpoints,
            gate=bench.gate,
        )
