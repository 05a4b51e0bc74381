"""What a site is told in a session, ready-made: a plan, and the instructions of its rounds."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

from job_plans import plan_of
from tiny_jobs import PLAN_DIGEST, identity_key, tiny_assignment

from edge_agent.session.acceptance import SiteTerms
from edge_agent.session.effects import (
    Effect,
)
from edge_agent.session.events import (
    AssignmentReceived,
    Event,
    PlanReceived,
    Prepared,
    RosterReceived,
)
from ravan.ids import Digest, JobId, RunId, SiteId
from ravan.manifest.assignment import Assignment
from ravan.manifest.instructions import ConfirmSurvivors, JobEnded, MaskAndUpload, Reveal, RoundRef, RoundResult
from ravan.manifest.phases import JobState, RoundOutcome
from ravan.manifest.profile import JobProfile
from ravan.manifest.roster import Roster
from ravan.secagg.messages import RevealRequest, ShareDelivery, SurvivorSet

PLAN = plan_of(2)
OTHER_PLAN = dataclasses.replace(PLAN, job_id=JobId("other"), job_name="other", run_id=RunId(bytes(16)))
OTHER_DIGEST = Digest(hashlib.sha256(b"other plan").digest())
TERMS = SiteTerms(site=SiteId("site-0"), identity_key=identity_key(0).public_key().public_bytes_raw())
ROSTER_DIGEST = Digest(hashlib.sha256(b"roster").digest())


def digest_of(number: int) -> Digest:
    return Digest(hashlib.sha256(b"assignment %d" % number).digest())


def assignment(number: int = 1) -> Assignment:
    return tiny_assignment(PLAN, ((0, 1), (0, 1), (0, 1)), round_number=number)


def train(number: int = 1, **changes: Any) -> AssignmentReceived:
    changed = dataclasses.replace(assignment(number), **changes)
    return AssignmentReceived(assignment=changed, digest=digest_of(number))


def reference(number: int = 1) -> RoundRef:
    return RoundRef(
        run_id=PLAN.run_id,
        round_number=number,
        assignment_digest=digest_of(number),
        roster_digest=ROSTER_DIGEST,
    )


def roster(number: int = 1) -> RosterReceived:
    empty = Roster(assignment_digest=digest_of(number), entries=(), threshold=3, bundles=())
    return RosterReceived(roster=empty, digest=ROSTER_DIGEST)


LEFT = RoundRef(run_id=PLAN.run_id, round_number=1, assignment_digest=digest_of(1), roster_digest=Digest(b""))
"""Round 1 before its roster."""


def delivery(number: int = 1) -> MaskAndUpload:
    return MaskAndUpload(round=reference(number), delivery=ShareDelivery(mask_set=(0, 1, 2), ciphertexts={}))


def profile_of(digest: Digest) -> JobProfile:
    return JobProfile(
        plan_digest=digest,
        ram_loaded_bytes=1,
        ram_floor_bytes=1,
        ram_per_matrix_bytes=1,
        step_floor_s=1.0,
        step_per_matrix_s=1.0,
    )


def prepared_now(digest: Digest) -> Prepared:
    return Prepared(digest=digest, profile=profile_of(digest))


SURVIVORS = SurvivorSet(survivors=(0, 1, 2), bundles=(0,))


def survivors(number: int = 1) -> ConfirmSurvivors:
    return ConfirmSurvivors(round=reference(number), survivors=SURVIVORS)


def reveal(number: int = 1) -> Reveal:
    return Reveal(round=reference(number), request=RevealRequest(survivor_set=SURVIVORS, signatures=()))


def result(number: int = 1, run_id: RunId = PLAN.run_id) -> RoundResult:
    return RoundResult(
        run_id=run_id,
        round_number=number,
        outcome=RoundOutcome.COMMITTED,
        state_digest=Digest(bytes(32)),
        dropped=False,
    )


PREPARE = PlanReceived(plan=PLAN, digest=PLAN_DIGEST)
ENDED = JobEnded(job_id=PLAN.job_id, state=JobState.COMPLETED)
STEPS: tuple[Event, ...] = (train(), roster(), delivery(), survivors(), reveal(), result())


def kinds(effects: tuple[Effect, ...]) -> list[type]:
    return [type(effect) for effect in effects]
