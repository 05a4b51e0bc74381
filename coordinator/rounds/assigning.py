"""Write the assignment of a round. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.allocation.clips import adapt_clips, initial_clips, specify_blocks
from coordinator.rounds.ports import Job
from coordinator.rounds.selection import Selection
from coordinator.store.records import SiteRecord
from ravan.ids import BlockId, Digest, SiteId
from ravan.manifest.assignment import Assignment, Member
from ravan.secagg.combine import RoundSum


def write_assignment(
    job: Job,
    selection: Selection,
    *,
    number: int,
    state_digest: Digest,
    sites: Mapping[SiteId, SiteRecord],
    clips: Mapping[BlockId, float],
) -> Assignment:
    """Return what round `number` asks of whom; members are numbered in the selection's order."""
    settings = job.file.secure_aggregation
    return Assignment(
        run_id=job.plan.run_id,
        job_id=job.job_id,
        round_number=number,
        plan_digest=job.plan_digest,
        state_digest=state_digest,
        model_digest=job.model_digest,
        suite=selection.suite,
        ring_bits=settings.ring_bits,
        bundle_threshold=settings.bundle_threshold,
        rotate=settings.rotate,
        weighting=settings.weighting(),
        blocks=specify_blocks(job.plan, clips),
        tiles=selection.tiles,
        members=tuple(
            Member(
                index=index,
                site=site,
                identity_key=sites[site].identity_key,
                tiles=selection.tiles_of[site],
                endorsement=sites[site].endorsement,
                scored_tiles=selection.scored_of[site],
            )
            for index, site in enumerate(selection.sites)
        ),
    )


def first_clips(job: Job) -> dict[BlockId, float]:
    """Return the clips of a job's first round."""
    return initial_clips(job.plan, job.file.secure_aggregation.clip)


def following_clips(clips: Mapping[BlockId, float], total: RoundSum) -> dict[BlockId, float]:
    """Return the clips that follow from a round's summed flags."""
    flags = {block: summed.clipped for block, summed in total.blocks.items()}
    cohorts = {block: summed.count for block, summed in total.blocks.items()}
    return adapt_clips(clips, flags, cohorts)
