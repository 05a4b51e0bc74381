"""What a round's and a job's steps write into one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from coordinator.audit.chain import Position
from coordinator.audit.entries import job_changed
from coordinator.audit.log import AuditLog
from coordinator.rounds.auditing import entries_of, round_ended
from coordinator.rounds.effects import Effect, EndRound, RecordDrop, SendInstruction
from coordinator.store.base import Transaction
from coordinator.store.records import JobRecord, RoundEntry, RoundRecord
from ravan.ids import Digest, JobId, RunId, SiteId
from ravan.manifest.instructions import Instruction, JobEnded, Prepare, RoundResult
from ravan.manifest.phases import RoundOutcome, RoundPhase


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one or more events did to a round."""

    entries: Sequence[RoundEntry]
    """The events themselves, as far as they are kept."""
    effects: Sequence[Effect]
    record: RoundRecord
    """The round afterwards."""
    job: JobRecord | None
    """Where it changed."""


def store_step(transaction: Transaction, audit: AuditLog, step: Step) -> None:
    """Write a step: what the round heard, and where that changed anything its record, its instructions and the job.

    What of it belongs into the audit log is recorded, and results tell their sites the chain's head.
    """
    effects, record, job = step.effects, step.record, step.job
    job_id, number = record.job_id, record.number
    ends = any(isinstance(effect, EndRound) for effect in effects)
    if ends:
        transaction.drop_round_entries(job_id)
        transaction.drop_tasks(job_id)
    else:
        transaction.add_round_entries(job_id, number, step.entries)
    if not effects:
        return
    if ends:
        transaction.drop_instructions(job_id, before_round=number)
        dropped = {drop.site for drop in record.dropped}
        for site in record.selected:
            if site not in dropped:
                transaction.drop_instructions(job_id, before_round=number + 1, site=site)
    place = audit.append(transaction, *entries_of(effects, record))
    for effect in effects:
        if isinstance(effect, RecordDrop):
            transaction.drop_instructions(job_id, before_round=number + 1, site=effect.site)
        elif isinstance(effect, SendInstruction):
            instruction = _with_head(effect.instruction, place)
            transaction.add_instruction(effect.site, instruction, job_id=job_id, round_number=number)
    transaction.put_round(record)
    if job is not None:
        transaction.put_job(job)


def store_preparation(transaction: Transaction, job: JobRecord, run_id: RunId, sites: Iterable[SiteId]) -> None:
    """Ask sites to prepare a job, in place of whatever they were told of it but the result of their last round."""
    for site in sites:
        told = [numbered.instruction for numbered in transaction.instructions_after(site, 0)]
        results = [each for each in told if isinstance(each, RoundResult) and each.run_id == run_id]
        transaction.drop_instructions(job.job_id, site=site)
        # A process that was cut off is still in that round for itself, and prepares nothing before it knows better.
        for result in results[-1:]:
            transaction.add_instruction(site, result, job_id=job.job_id, round_number=result.round_number)
        transaction.add_instruction(site, Prepare(plan=job.plan), job_id=job.job_id, round_number=0)


def interrupted(record: RoundRecord) -> RoundRecord:
    """Return the record of a round that stood still and is over."""
    return replace(record, phase=RoundPhase.ENDED, outcome=RoundOutcome.INTERRUPTED, deadline_at=0.0)


def store_interruption(
    transaction: Transaction, audit: AuditLog, job_id: JobId, run_id: RunId, record: RoundRecord
) -> None:
    """End a round that stands still, as after a restart or a full disk, and tell its sites."""
    ended = interrupted(record)
    transaction.drop_round_entries(job_id)
    transaction.drop_tasks(job_id)
    transaction.put_round(ended)
    place = audit.append(transaction, round_ended(ended))
    _store_results(transaction, run_id, ended, RoundOutcome.INTERRUPTED, place)


def store_job(transaction: Transaction, audit: AuditLog, job: JobRecord, by: str) -> None:
    """Write a job as it is now; a pause and its end are recorded as done `by` this actor."""
    entries = job_changed(transaction.get_job(job.job_id), job, by)
    if entries:
        audit.append(transaction, *entries)
    transaction.put_job(job)


def store_job_end(
    transaction: Transaction,
    audit: AuditLog,
    job: JobRecord,
    run_id: RunId,
    rounds: Sequence[RoundRecord],
    sites: Iterable[SiteId],
    by: str,
) -> None:
    """Write a job's end and tell the sites, with the last round's result for those who have not read it."""
    last = rounds[-1] if rounds else None
    transaction.drop_instructions(job.job_id)
    transaction.drop_round_entries(job.job_id)
    transaction.drop_tasks(job.job_id)
    if last is not None:
        if last.outcome is None:
            # It stood still when the job was stopped.
            transaction.put_round(interrupted(last))
            audit.append(transaction, round_ended(last))
        _store_results(transaction, run_id, last, last.outcome or RoundOutcome.INTERRUPTED, audit.position(transaction))
    ended = _end_of(job, rounds)
    for site in sites:
        transaction.add_instruction(site, ended, job_id=job.job_id, round_number=0)
    store_job(transaction, audit, job, by)


def _end_of(job: JobRecord, rounds: Sequence[RoundRecord]) -> JobEnded:
    """Return what sites are told; the version that a job starts from is none to tell of."""
    made = next((each for each in reversed(rounds) if each.outcome is RoundOutcome.COMMITTED), None)
    if made is None:
        return JobEnded(job_id=job.job_id, state=job.state)
    return JobEnded(job_id=job.job_id, state=job.state, state_digest=job.state_digest, round_number=made.number)


def _with_head(instruction: Instruction, place: Position) -> Instruction:
    """Return a result with the audit chain's head, where there is one; other instructions as they are."""
    if not isinstance(instruction, RoundResult) or place.sequence == 0:
        return instruction
    return replace(instruction, audit_sequence=place.sequence, audit_head=Digest(bytes.fromhex(place.head)))


def _store_results(
    transaction: Transaction, run_id: RunId, record: RoundRecord, outcome: RoundOutcome, place: Position
) -> None:
    dropped = {drop.site for drop in record.dropped}
    for site in record.selected:
        result = RoundResult(
            run_id=run_id,
            round_number=record.number,
            outcome=outcome,
            state_digest=record.state_digest,
            dropped=site in dropped,
        )
        told = _with_head(result, place)
        transaction.add_instruction(site, told, job_id=record.job_id, round_number=record.number)
