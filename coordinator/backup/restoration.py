"""Putting a coordinator back to a backup, without asking any site for what it has given already.

Sites remember the rounds of each run that they took part in, and what was masked for a round is never
masked again. So the jobs that go on get new run ids, under the same plan signed anew: rounds from before
and after the backup have nothing to do with each other.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from coordinator.audit.chain import START, Position, SignedAs, is_signed
from coordinator.audit.entries import records_restored
from coordinator.audit.log import AuditLog
from coordinator.backup.archive import Backup, open_backup
from coordinator.config import CoordinatorFile, DataFolder
from coordinator.daemon.data_lock import hold_data_folder_alone
from coordinator.enrolment.pki import load_pki
from coordinator.rounds.signing import Signatory
from coordinator.rounds.storing import interrupted
from coordinator.storage import open_blobs, records_place
from coordinator.store.base import Transaction
from coordinator.store.blobs.base import BlobStore
from coordinator.store.records import JobRecord, SiteRecord
from coordinator.store.references import job_blobs
from coordinator.store.sql.database import Place
from coordinator.store.sql.snapshots import load_snapshot, read_records
from ravan.errors import ErrorReason, IdentityError, StateError
from ravan.ids import RunId
from ravan.manifest.phases import ENDED_JOBS, JobState


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What came back."""

    taken_at: float
    """When the backup was taken."""
    sites: int
    jobs: int
    going_on: tuple[str, ...]
    """Names of the jobs that have a new run."""
    incomplete: tuple[str, ...]
    """Those of them that are paused since blobs of theirs are missing."""
    knew_fleet: bool
    """Whether the records that were replaced still told who has enrolled or was revoked since the backup."""


def restore_backup(config: CoordinatorFile, path: Path, *, replacing: bool, now: float) -> Restored:
    """Put the records of a backup in place of those that are there, and its blobs beside those that are there.

    It happens whole or not at all. Raises StateError: WRONG_STATE while a daemon runs, ALREADY_EXISTS when there
    are records and `replacing` is false; IdentityError (IDENTITY_MISMATCH) for another coordinator's backup;
    TransferError (MALFORMED, HASH_MISMATCH); ResourceError.
    """
    folder, place = DataFolder(config.server.data_dir), records_place(config)
    with hold_data_folder_alone(folder), open_backup(path) as backup:
        signatory = Signatory(load_pki(folder.pki).manifest_key)
        _require_ours(backup, signatory)
        blobs = open_blobs(config)
        with tempfile.TemporaryDirectory(prefix="restore-", dir=folder.root) as scratch:
            snapshot = Path(scratch) / "ravan.db"
            backup.extract_records(snapshot)
            read_records(snapshot, _list_sites)
            _require_room_for(place, replacing=replacing)
            backup.store_blobs(blobs)
            turn = _Turn(signatory=signatory, blobs=blobs, taken_at=backup.facts.taken_at, now=now)
            restored = load_snapshot(snapshot, place, keep=_list_sites, keeps_log=turn.keeps_log, adjust=turn.take)
        # Uploads of runs that are over; new ones come under the new ids.
        shutil.rmtree(folder.staging, ignore_errors=True)
        return restored


def merge_sites(backup: Iterable[SiteRecord], present: Iterable[SiteRecord]) -> Sequence[SiteRecord]:
    """Return each site as it was known last: nobody comes back who was revoked, nobody goes who has enrolled since."""
    merged = {site.name: site for site in backup}
    for site in present:
        older = merged.get(site.name)
        if older is None or site.enrolled_at > older.enrolled_at:
            merged[site.name] = site
        elif site.enrolled_at == older.enrolled_at:
            merged[site.name] = replace(site, revoked_at=site.revoked_at or older.revoked_at)
    return tuple(merged.values())


def renew_run(job: JobRecord, run_id: RunId, signatory: Signatory) -> JobRecord:
    """Return a job under another run id, its plan signed anew; raise ProtocolError for a plan of another key."""
    plan, _ = signatory.open_plan(job.plan)
    document, _ = signatory.sign_plan(replace(plan, run_id=run_id))
    return replace(job, plan=document)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """What becomes of the backup's records."""

    signatory: Signatory
    blobs: BlobStore
    taken_at: float
    now: float
    backup_log: list[Position] = field(default_factory=list)
    """Where the log was in the backup, once it was looked at."""

    def keeps_log(self, present: Transaction, backup: Transaction) -> bool:
        """Tell whether the audit log that is there is ours and goes on at least as far as the backup's."""
        in_backup, here = self._log_in(backup), self._log_in(present)
        self.backup_log.append(in_backup)
        return here.sequence > 0 and here.sequence >= in_backup.sequence

    def _log_in(self, transaction: Transaction) -> Position:
        seal = transaction.get_audit_seal()
        if seal is None or not is_signed(seal, SignedAs.SEAL, self.signatory.key.public_key()):
            return START
        return Position(sequence=seal.sequence, head=seal.head)

    def take(self, transaction: Transaction, present: Sequence[SiteRecord]) -> Restored:
        transaction.begin_timeline(os.urandom(16), self.now)
        in_backup = self.backup_log[-1]
        entry = records_restored(self.taken_at, in_backup.sequence, in_backup.head)
        AuditLog(self.signatory.key).append(transaction, entry)
        for site in merge_sites(transaction.list_sites(), present):
            transaction.put_site(site)
        for token in transaction.list_open_tokens():
            # Somebody may have used it since.
            transaction.put_token(replace(token, expires_at=min(token.expires_at, self.now)))
        jobs = transaction.list_jobs()
        going_on = [self._renew(transaction, job) for job in jobs if job.state not in ENDED_JOBS]
        return Restored(
            taken_at=self.taken_at,
            sites=len(transaction.list_sites()),
            jobs=len(jobs),
            going_on=tuple(job.name for job in going_on),
            incomplete=tuple(job.name for job in going_on if job.state is JobState.PAUSED and job.message == _LACKING),
            knew_fleet=bool(present),
        )

    def _renew(self, transaction: Transaction, job: JobRecord) -> JobRecord:
        renewed = renew_run(job, RunId(os.urandom(16)), self.signatory)
        if not all(map(self.blobs.exists, job_blobs(job))):
            renewed = replace(renewed, state=JobState.PAUSED, message=_LACKING)
        transaction.drop_instructions(job.job_id)
        for record in transaction.list_rounds(job.job_id):
            if record.outcome is None:
                transaction.put_round(interrupted(record))
        transaction.drop_round_entries(job.job_id)
        transaction.drop_tasks(job.job_id)
        transaction.put_job(renewed)
        return renewed


_LACKING = "Restored without all of its blobs: put them back, then `job resume`."


def _list_sites(transaction: Transaction) -> Sequence[SiteRecord]:
    return transaction.list_sites()


def _require_ours(backup: Backup, signatory: Signatory) -> None:
    if backup.facts.manifest_key != signatory.key.public_key().public_bytes_raw().hex():
        raise IdentityError(
            "The backup was taken under other keys than those in this data folder.",
            reason=ErrorReason.IDENTITY_MISMATCH,
            next_step="Put the pki/ folder of that coordinator back first.",
        )


def _require_room_for(place: Place, *, replacing: bool) -> None:
    """Refuse to replace records without having been told to."""

    def has_records(transaction: Transaction) -> bool:
        return bool(transaction.list_sites() or transaction.list_jobs() or transaction.list_models())

    if not replacing and read_records(place, has_records):
        raise StateError(
            "There are records already, and a restore replaces all of them.",
            reason=ErrorReason.ALREADY_EXISTS,
            next_step="Take a backup of them, then add --replace.",
        )
