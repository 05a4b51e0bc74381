"""What is recorded of sites, models, jobs and the daemon itself. Pure; rounds are in `coordinator.rounds.auditing`.

An actor is `operator:NAME:SERIAL` or `site:NAME:SERIAL` by the certificate that the call was made with, `token:ID`
for an enrolment, and `coordinator` for what the daemon does by itself.
"""

from __future__ import annotations

from typing import Final

from coordinator.audit.chain import AuditEntry, AuditKind, Fact
from coordinator.store.records import JobRecord, ModelRecord, SiteRecord, TokenRecord
from ravan.identity.certificates import Caller, Rank, Role
from ravan.identity.statements import sha256
from ravan.ids import Digest, SiteId
from ravan.manifest.phases import JobState

COORDINATOR: Final = "coordinator"


def actor_of(caller: Caller) -> str:
    """Return the actor that a client certificate names."""
    return f"{caller.role}:{caller.name}:{caller.serial}"


def daemon_started(version: str, process: str) -> AuditEntry:
    """Record the start of a daemon process."""
    return _of_coordinator(AuditKind.STARTED, version=version, process=process)


def configuration_changed(digest: Digest) -> AuditEntry:
    """Record that a daemon starts with another configuration than the last one."""
    return _of_coordinator(AuditKind.CONFIGURED, configuration=digest.hex())


def records_restored(taken_at: float, backup_sequence: int, backup_head: str) -> AuditEntry:
    """Record that all other records were put back to a backup, and where the log was in that."""
    facts: dict[str, Fact] = {
        "backup_sequence": backup_sequence,
        "backup_head": backup_head,
        "taken_at_ms": round(taken_at * 1000),
    }
    return AuditEntry(kind=AuditKind.RESTORED, actor=COORDINATOR, subject="", facts=facts)


def token_created(token: TokenRecord, by: str) -> AuditEntry:
    """Record a join string; its secret is in nothing that is hashed."""
    facts: dict[str, Fact] = {"token": token.token_id, "expires_at_ms": round(token.expires_at * 1000)}
    return AuditEntry(kind=AuditKind.TOKEN_CREATED, actor=by, subject=token.site, facts=facts)


def site_enrolled(site: SiteRecord, before: SiteRecord | None, token_id: str) -> AuditEntry:
    """Record an enrolment, and whose certificate it replaces."""
    facts = {**_identity_of(site), "replaced": "" if before is None else before.certificate_serial}
    return AuditEntry(kind=AuditKind.ENROLLED, actor=f"token:{token_id}", subject=site.name, facts=facts)


def certificate_renewed(site: SiteRecord, serial: str) -> AuditEntry:
    """Record that a site has a newer certificate than `serial`."""
    actor = f"{Role.AGENT}:{site.name}:{serial}"
    return AuditEntry(
        kind=AuditKind.CERTIFICATE_RENEWED, actor=actor, subject=site.name, facts={"serial": site.certificate_serial}
    )


def site_revoked(site: SiteRecord, by: str) -> AuditEntry:
    """Record a revocation, or that a site has left."""
    return AuditEntry(kind=AuditKind.REVOKED, actor=by, subject=site.name, facts={"serial": site.certificate_serial})


def site_endorsed(site: SiteId, endorsement: bytes, by: str) -> AuditEntry:
    """Record an owner's word for a site."""
    facts = {"endorsement": sha256(endorsement).hex()}
    return AuditEntry(kind=AuditKind.ENDORSED, actor=by, subject=site, facts=facts)


def call_denied(caller: Caller, method: str, *, left_out: int) -> AuditEntry:
    """Record a call without the right to it, and how many of this certificate's before it were not recorded."""
    facts: dict[str, Fact] = {"left_out": left_out}
    return AuditEntry(
        kind=AuditKind.CALL_DENIED, actor=actor_of(caller), subject=method.rpartition("/")[2], facts=facts
    )


def operator_created(name: str, serial: str, rank: Rank) -> AuditEntry:
    """Record a certificate that was issued to a person, by whoever can read the authority's key."""
    return _of_operator(AuditKind.OPERATOR_CREATED, name, serial=serial, rank=rank.value)


def operator_revoked(name: str, serial: str) -> AuditEntry:
    """Record that a person's certificate is refused from now on."""
    return _of_operator(AuditKind.OPERATOR_REVOKED, name, serial=serial)


def model_added(model: ModelRecord, by: str) -> AuditEntry:
    """Record a base model."""
    return AuditEntry(kind=AuditKind.MODEL_ADDED, actor=by, subject=model.name, facts={"model": model.digest.hex()})


def content_exported(digest: Digest, by: str) -> AuditEntry:
    """Record that an operator fetches a version, a base model or other content by its hash."""
    return AuditEntry(kind=AuditKind.EXPORTED, actor=by, subject=digest.hex(), facts={})


def job_submitted(job: JobRecord, plan: Digest, bundle_threshold: int, by: str) -> AuditEntry:
    """Record a job and what it was submitted with."""
    facts: dict[str, Fact] = {
        "name": job.name,
        "plan": plan.hex(),
        "job_file": sha256(job.job_toml.encode()).hex(),
        "evaluation_data": job.evaluation_digest.hex(),
        "model": job.model,
        "rounds": job.rounds_planned,
        "bundle_threshold": bundle_threshold,
        "state": job.state_digest.hex(),
    }
    return AuditEntry(kind=AuditKind.JOB_SUBMITTED, actor=by, subject=job.job_id, facts=facts)


def job_changed(before: JobRecord | None, job: JobRecord, by: str) -> tuple[AuditEntry, ...]:
    """Record that a job was paused, goes on, or has ended; nothing for other changes."""
    state = None if before is None else before.state
    if job.state is state:
        return ()
    if job.state is JobState.PAUSED:
        return (_of_job(AuditKind.JOB_PAUSED, job, by),)
    if job.state is JobState.RUNNING:
        return (_of_job(AuditKind.JOB_RESUMED, job, by),) if state is JobState.PAUSED else ()
    return (_of_job(AuditKind.JOB_ENDED, job, by),)


def _of_operator(kind: AuditKind, name: str, **facts: Fact) -> AuditEntry:
    return AuditEntry(kind=kind, actor=COORDINATOR, subject=name, facts=facts)


def _of_job(kind: AuditKind, job: JobRecord, by: str) -> AuditEntry:
    facts = {"name": job.name, "job_state": job.state.value, "state": job.state_digest.hex()}
    return AuditEntry(kind=kind, actor=by, subject=job.job_id, facts=facts)


def _identity_of(site: SiteRecord) -> dict[str, str]:
    return {"serial": site.certificate_serial, "identity": sha256(site.identity_key).hex()}


def _of_coordinator(kind: AuditKind, **facts: str) -> AuditEntry:
    return AuditEntry(kind=kind, actor=COORDINATOR, subject="", facts=facts)
