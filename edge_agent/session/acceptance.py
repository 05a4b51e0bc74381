"""What a plan or an assignment must say before this site works for it. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ravan.adapters.state import block_shapes
from ravan.codec.documents import model_digest
from ravan.errors import ErrorReason, ProtocolError, ResourceError, StateError
from ravan.identity.endorsement import is_endorsed
from ravan.ids import BlockId, Digest, SiteId
from ravan.manifest.assignment import BUNDLE_FLOOR, Assignment
from ravan.manifest.plan import JobPlan
from ravan.manifest.profile import JobProfile
from ravan.model_files import is_model_file
from ravan.secagg.terms import check_assignment


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteTerms:
    """Who this site is and what it agrees to."""

    site: SiteId
    identity_key: bytes
    """Ed25519 public key, 32 bytes."""
    minimum_bundle_threshold: int = BUNDLE_FLOOR
    allowed_models: frozenset[str] = frozenset()
    """Hexadecimal digests; empty allows any."""
    allowed_jobs: frozenset[str] = frozenset()
    """Names; empty allows any."""
    minimum_steps: int = 1
    """Least training steps in a round."""
    owner_key: bytes = b""
    """Ed25519 public key whose endorsement each member needs, 32 bytes; empty asks for none."""


def check_plan(plan: JobPlan, terms: SiteTerms) -> None:
    """Raise StateError PERMISSION_DENIED when the site's policy does not allow the job or its settings."""
    if terms.allowed_jobs and plan.job_name not in terms.allowed_jobs:
        raise _not_allowed(f"the job '{plan.job_name}'", "allowed_jobs", plan.job_name)
    digest = model_digest(plan.model_files).hex()
    if terms.allowed_models and digest not in terms.allowed_models:
        raise _not_allowed(f"the base model '{plan.model_name}'", "allowed_models", digest)
    strange = [file.path for file in plan.model_files if not is_model_file(file.path)]
    if strange:
        raise StateError(
            f"The base model '{plan.model_name}' comes with the file {strange[0][:60]!r}, which no model may have.",
            reason=ErrorReason.PERMISSION_DENIED,
            next_step="Ask HQ where the model came from: a coordinator takes in no such file.",
        )
    steps = plan.training.steps
    if steps < terms.minimum_steps:
        raise StateError(
            f"The job '{plan.job_name}' trains {steps} steps a round; this site's [policy] asks for"
            f" {terms.minimum_steps} or more.",
            reason=ErrorReason.PERMISSION_DENIED,
            next_step="Ask HQ for a job with more steps, or lower minimum_steps in agent.toml if the site agrees.",
        )


def find_own_index(assignment: Assignment, plan: JobPlan, plan_digest: Digest, terms: SiteTerms) -> int:
    """Return this site's member index in an assignment that it can accept; raise ProtocolError for any other.

    The plan is the one that the site prepared, so the training settings are those that it agreed to. Raise StateError
    PERMISSION_DENIED when the site asks for endorsements and a member lacks one.
    """
    if assignment.plan_digest != plan_digest:
        raise _differs("it belongs to another plan than the one that was prepared")
    if (assignment.run_id, assignment.job_id) != (plan.run_id, plan.job_id):
        raise _differs("run or job are not those of its plan")
    if assignment.model_digest != model_digest(plan.model_files):
        raise _differs("its base model is not the plan's")
    lengths = {block: math.prod(shape) for block, shape in block_shapes(plan).items()}
    if {spec.block_id: spec.length for spec in assignment.blocks} != lengths:
        raise _differs("its blocks are not those of the plan")
    check_assignment(assignment, terms.minimum_bundle_threshold)
    own = [member for member in assignment.members if member.site == terms.site]
    if len(own) != 1 or own[0].identity_key != terms.identity_key:
        raise _differs("it does not list this site, once and with its own identity key")
    if terms.owner_key:
        _check_endorsed(assignment, terms.owner_key)
    return own[0].index


def check_memory(plan: JobPlan, profile: JobProfile, trained: Iterable[BlockId], limit_bytes: int) -> None:
    """Raise ResourceError MEMORY_LIMIT for blocks that this PC has measured not to hold, whatever HQ thinks."""
    matrices = plan.matrices_reached(trained)
    needed = profile.peak_bytes(matrices)
    if needed > limit_bytes:
        raise ResourceError(
            f"Training in the top {matrices} matrices takes {needed >> 20} MiB, over this agent's limit of"
            f" {limit_bytes >> 20} MiB.",
            reason=ErrorReason.MEMORY_LIMIT,
            next_step="Nothing to do: the next round asks for less. To train more, raise the limit.",
        )


def _check_endorsed(assignment: Assignment, owner_key: bytes) -> None:
    strangers = [
        member.site
        for member in assignment.members
        if not is_endorsed(owner_key, member.site, member.identity_key, member.endorsement)
    ]
    if strangers:
        more = f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""
        raise StateError(
            f"The round is refused: the owner has not endorsed the site '{strangers[0]}'{more}.",
            reason=ErrorReason.PERMISSION_DENIED,
            next_step="Ask the people at that site for what `ravan-agent identity` shows and have the owner endorse it;"
            " HQ enters that with `ravan-coordinator site endorse`.",
        )


def _not_allowed(what: str, key: str, value: str) -> StateError:
    return StateError(
        f"This site's [policy] does not allow {what}.",
        reason=ErrorReason.PERMISSION_DENIED,
        next_step=f'If the site agrees, add "{value}" to {key} in agent.toml and start the agent again.',
    )


def _differs(fault: str) -> ProtocolError:
    return ProtocolError(
        f"The assignment is refused: {fault}.",
        reason=ErrorReason.PROTOCOL_VIOLATION,
        next_step="Ask HQ to look at the job; the site takes part again when an assignment fits.",
    )
