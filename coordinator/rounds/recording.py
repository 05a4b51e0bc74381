"""Put a round on record as it stands: for operators, for the next start, and for recomputation. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordinator.rounds.results import Evaluation, NewVersion, SummedRound, finite_or_none
from coordinator.store.records import DropRecord, RoundRecord, SiteRoundRecord
from ravan.ids import BlockId, BlockKind, Digest, SiteId
from ravan.manifest.assignment import Assignment
from ravan.manifest.liveness import Heartbeat

if TYPE_CHECKING:
    from coordinator.rounds.machine import RoundMachine
    from ravan.secagg.combine import RoundSum


@dataclass(slots=True, kw_only=True)
class RoundNotes:
    """What the shell of a round learns beside the machine."""

    started_at: float
    ram_limits: Mapping[SiteId, int]
    """Limits that the allocation was made from, in bytes."""
    costs: dict[SiteId, Heartbeat] = field(default_factory=dict)
    """Newest heartbeat of each site in this round."""
    uploads: dict[SiteId, int] = field(default_factory=dict)
    """Bytes of the masked vectors that arrived."""
    summed: SummedRound | None = None
    measured: Evaluation | None = None
    """Figures of the new version, also of one that was refused."""
    version: NewVersion | None = None
    """The version that was committed."""


def record_round(machine: RoundMachine, notes: RoundNotes) -> RoundRecord:
    """Return the record of a round as it stands now."""
    assignment = machine.setup.assignment
    total = None if notes.summed is None else notes.summed.total
    measured = notes.measured
    return RoundRecord(
        job_id=assignment.job_id,
        number=assignment.round_number,
        phase=machine.phase,
        outcome=machine.outcome,
        started_at=notes.started_at,
        deadline_at=machine.deadline_at or 0.0,
        phase_seconds=dict(machine.phase_seconds),
        selected=tuple(member.site for member in assignment.members),
        completed=machine.completed,
        dropped=tuple(
            DropRecord(site=machine.site(absence.index), phase=absence.phase, reason=absence.reason)
            for absence in machine.absences
        ),
        sites=_record_sites(assignment, notes),
        cohorts={} if total is None else head_cohorts(assignment, total),
        scores={} if total is None else {head: summed.mean for head, summed in total.scores.items()},
        withheld=() if total is None else withheld_blocks(total),
        accuracy=None if measured is None else finite_or_none(measured.accuracy),
        loss=None if measured is None else finite_or_none(measured.loss),
        clip_rate=None if total is None else clip_rate(total),
        training_loss=None if total is None else training_loss(total),
        state_digest=Digest(b"") if notes.version is None else notes.version.state_digest,
        sums_digest=Digest(b"") if notes.summed is None else notes.summed.sums_digest,
        clips={spec.block_id: spec.clip for spec in assignment.blocks},
    )


def head_cohorts(assignment: Assignment, total: RoundSum) -> dict[BlockId, int]:
    """Return the survivors of every head; 0 for one that kept its value."""
    heads = (spec.block_id for spec in assignment.blocks if spec.block_id.kind is BlockKind.HEAD)
    return {head: total.blocks[head].count if head in total.blocks else 0 for head in heads}


def withheld_blocks(total: RoundSum) -> tuple[BlockId, ...]:
    """Return the blocks that kept their value, by id: too few survivors, or nobody trains them."""
    kept = [block for bundle in total.withheld for block in bundle.blocks] + list(total.untrained)
    # Another group may have released what one had to withhold.
    return tuple(sorted(set(kept) - total.blocks.keys()))


def clip_rate(total: RoundSum) -> float:
    """Return the share of the sites' blocks that were clipped, 0 to 1."""
    trained = sum(summed.count for summed in total.blocks.values())
    return sum(summed.clipped for summed in total.blocks.values()) / trained if trained else 0.0


def training_loss(total: RoundSum) -> float | None:
    """Return the mean loss over all examples that the survivors trained on; None without any."""
    statistics = total.statistics
    return statistics.loss_sum / statistics.examples if statistics.examples else None


def _record_sites(assignment: Assignment, notes: RoundNotes) -> tuple[SiteRoundRecord, ...]:
    heads = {tile.tile_id: len(tile.blocks) for tile in assignment.tiles}
    records = []
    for member in assignment.members:
        cost = notes.costs.get(member.site)
        records.append(
            SiteRoundRecord(
                site=member.site,
                heads=sum(heads[tile] for tile in member.tiles),
                ram_limit_bytes=notes.ram_limits[member.site],
                upload_bytes=notes.uploads.get(member.site, 0),
                peak_rss_bytes=0 if cost is None else cost.peak_rss_bytes,
                extra_peak_bytes=0 if cost is None else cost.extra_peak_bytes,
                step_cpu_s=0.0 if cost is None else cost.step_cpu_s,
            )
        )
    return tuple(records)
