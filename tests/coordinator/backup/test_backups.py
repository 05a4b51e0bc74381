"""Backups: what comes back, what must not come back, and that a restore happens whole or not at all."""

from __future__ import annotations

import asyncio
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from audit_chains import entry
from job_plans import plan_of
from object_server import objects
from postgres_server import PostgresServer, postgres

from coordinator.audit.chain import AuditRecord
from coordinator.audit.log import AuditLog
from coordinator.audit.reading import verify_log
from coordinator.backup.archive import write_backup
from coordinator.backup.restoration import Restored, merge_sites, restore_backup
from coordinator.config import CoordinatorFile, DataFolder, load_config
from coordinator.daemon.data_lock import hold_data_folder
from coordinator.enrolment.pki import load_pki
from coordinator.founding import found_coordinator
from coordinator.rounds.signing import Signatory
from coordinator.storage import open_blobs, records_place
from coordinator.store.base import Transaction
from coordinator.store.records import JobRecord, ModelRecord, RoundRecord, SiteRecord, TokenRecord
from coordinator.store.sql.snapshots import read_records
from coordinator.store.sql.store import open_store
from ravan.codec.plans import decode_plan
from ravan.errors import ErrorReason, IdentityError, ProtocolError, RavanError, StateError, TransferError
from ravan.ids import Digest, JobId, SiteId
from ravan.manifest.instructions import Prepare
from ravan.manifest.phases import JobState, RoundOutcome, RoundPhase
from ravan.manifest.plan import ModelFile

__all__ = ["objects", "postgres"]

A, B = SiteId("plant-a"), SiteId("plant-b")
TAKEN, NOW = 1.8e9, 1.9e9


@dataclass
class Headquarters:
    """A coordinator's data folder, with whatever database and blob store its configuration names."""

    config: CoordinatorFile

    @property
    def folder(self) -> DataFolder:
        return DataFolder(self.config.server.data_dir)

    @property
    def signatory(self) -> Signatory:
        return Signatory(load_pki(self.folder.pki).manifest_key)

    def transact(self, work: Callable[[Transaction], Any]) -> Any:
        return read_records(records_place(self.config), work)

    def records(self) -> dict[str, Any]:
        """Return everything that a backup must bring back."""

        def read(t: Transaction) -> dict[str, Any]:
            jobs = t.list_jobs()
            return {
                "sites": t.list_sites(),
                "models": t.list_models(),
                "jobs": jobs,
                "rounds": [t.list_rounds(job.job_id) for job in jobs],
                "instructions": [t.instructions_after(site, 0) for site in (A, B)],
                "tokens": t.list_open_tokens(),
                "timeline": t.current_timeline(),
            }

        found: dict[str, Any] = self.transact(read)
        return found

    def job(self, name: str = "going-on") -> JobRecord:
        found: JobRecord = self.transact(lambda t: t.find_job(name))
        return found

    def backup(self, path: Path, *, with_blobs: bool = True) -> Path:
        blobs = open_blobs(self.config) if with_blobs else None
        key = load_pki(self.folder.pki).manifest_public
        write_backup(path, records_place(self.config), blobs, manifest_key=key, taken_at=TAKEN)
        return path

    def restore(self, path: Path, *, replacing: bool = True) -> Restored:
        return restore_backup(self.config, path, replacing=replacing, now=NOW)


Found = Callable[[str, str], Headquarters]


@pytest.fixture
def found(tmp_path: Path, request: pytest.FixtureRequest) -> Found:
    """Found a coordinator by name, in the data folder alone or at servers."""

    def make(name: str, kind: str) -> Headquarters:
        path = found_coordinator(tmp_path / name, ["localhost"], now=NOW)
        if kind == "servers":
            database: PostgresServer = request.getfixturevalue("postgres")
            address = database.new_database()
            bucket = request.getfixturevalue("objects").new_bucket()
            (path.parent / "password").write_text(address.password)
            (path.parent / "secret").write_text(bucket.secret_access_key)
            path.write_text(
                '[server]\nhosts = ["localhost"]\n'
                f'[database]\nurl = "{address.url}"\npassword_file = "password"\n'
                f'[objects]\nbucket = "{bucket.name}"\nendpoint = "{bucket.endpoint}"\n'
                f'access_key_id = "{bucket.access_key_id}"\nsecret_file = "secret"\n'
            )
        return Headquarters(load_config(path, {}))

    return make


@pytest.fixture(params=["folder", "servers"])
def hq(request: pytest.FixtureRequest, found: Found) -> Headquarters:
    return filled(found("hq", request.param))


def filled(hq: Headquarters) -> Headquarters:
    """Let two sites enrol, one job end, and one be in the middle of its second round."""
    blobs = open_blobs(hq.config)
    file = ModelFile(path="config.json", sha256=blobs.put(b"{}"), size_bytes=2)
    held_out, versions, sums = blobs.put(b"text,label"), blobs.put(b"version 1"), blobs.put(b"sums 1")

    def job(name: str, state: JobState) -> JobRecord:
        plan = replace(plan_of(2), job_id=JobId(f"{name}-1"), job_name=name, model_files=(file,))
        return JobRecord(
            job_id=plan.job_id,
            name=name,
            state=state,
            message="",
            submitted_at=1.0,
            request_id=name,
            job_toml="",
            plan=hq.signatory.sign_plan(plan)[0],
            model="tiny",
            evaluation_digest=held_out,
            rounds_planned=9,
            state_digest=versions,
        )

    def write(t: Transaction) -> None:
        t.put_model(
            ModelRecord(name="tiny", files=(file,), digest=file.sha256, model_type="bert", parameters=3, added_at=1.0)
        )
        t.put_site(enrolled("plant-a"))
        t.put_site(enrolled("plant-b"))
        t.put_token(open_token("plant-c"))
        going_on = job("going-on", JobState.RUNNING)
        for each in (going_on, job("ended", JobState.COMPLETED)):
            t.put_job(each)
            t.put_round(committed(each.job_id, versions, sums))
        t.put_round(begun(going_on.job_id))
        t.add_instruction(A, Prepare(plan=going_on.plan), job_id=going_on.job_id, round_number=0)

    hq.transact(write)
    return hq


def enrolled(name: str, at: float = 10.0, revoked_at: float | None = None) -> SiteRecord:
    return SiteRecord(
        name=SiteId(name),
        identity_key=b"k" * 32,
        certificate_pem=b"PEM",
        certificate_serial=f"{name}{at}",
        certificate_expires_at=2e9,
        enrolled_at=at,
        revoked_at=revoked_at,
    )


def open_token(site: str) -> TokenRecord:
    return TokenRecord(token_id=site, secret_hash=b"h" * 32, site=SiteId(site), created_at=1.0, expires_at=2e9)


def committed(job_id: JobId, version: Digest, sums: Digest) -> RoundRecord:
    return RoundRecord(
        job_id=job_id,
        number=1,
        phase=RoundPhase.ENDED,
        outcome=RoundOutcome.COMMITTED,
        started_at=1.0,
        state_digest=version,
        sums_digest=sums,
    )


def begun(job_id: JobId) -> RoundRecord:
    return RoundRecord(
        job_id=job_id, number=2, phase=RoundPhase.UPLOADING, outcome=None, started_at=2.0, deadline_at=2e9
    )


@pytest.mark.parametrize("target", ["folder", "servers"])
def test_a_backup_makes_another_machine_the_same_coordinator(
    hq: Headquarters, found: Found, tmp_path: Path, target: str
) -> None:
    file = hq.backup(tmp_path / "backup.tar")
    other = found("other", target)
    shutil.copytree(hq.folder.pki, other.folder.pki, dirs_exist_ok=True)
    restored = other.restore(file, replacing=False)
    assert restored == Restored(
        taken_at=TAKEN, sites=2, jobs=2, going_on=("going-on",), incomplete=(), knew_fleet=False
    )
    before, after = hq.records(), other.records()
    assert after["models"] == before["models"]
    assert after["sites"] == before["sites"]
    assert [job.job_id for job in after["jobs"]] == [job.job_id for job in before["jobs"]]
    blobs = open_blobs(hq.config)
    assert {blob.digest for blob in open_blobs(other.config).stored()} == {blob.digest for blob in blobs.stored()}
    for blob in blobs.stored():
        assert open_blobs(other.config).read(blob.digest) == blobs.read(blob.digest)


def test_only_jobs_that_go_on_get_a_new_run_under_the_same_plan(hq: Headquarters, tmp_path: Path) -> None:
    before, ended = hq.job(), hq.job("ended")
    hq.restore(hq.backup(tmp_path / "backup.tar"))
    after = hq.job()
    plan, _ = hq.signatory.open_plan(after.plan)
    former = decode_plan(before.plan.payload)
    assert plan.run_id != former.run_id
    assert replace(plan, run_id=former.run_id) == former
    assert replace(after, plan=before.plan) == before
    assert hq.job("ended") == ended


def test_the_round_that_ran_is_over_and_nobody_is_told_to_go_on_with_it(hq: Headquarters, tmp_path: Path) -> None:
    (hq.folder.staging / "run" / "2").mkdir(parents=True)
    hq.restore(hq.backup(tmp_path / "backup.tar"))
    records = hq.records()
    assert records["instructions"] == [[], []]
    rounds = next(rounds for rounds in records["rounds"] if rounds[0].job_id == hq.job().job_id)
    assert [(each.number, each.phase, each.outcome) for each in rounds] == [
        (1, RoundPhase.ENDED, RoundOutcome.COMMITTED),
        (2, RoundPhase.ENDED, RoundOutcome.INTERRUPTED),
    ]
    assert not hq.folder.staging.exists()


def test_each_restore_is_a_run_and_a_timeline_of_its_own(hq: Headquarters, tmp_path: Path) -> None:
    file = hq.backup(tmp_path / "backup.tar")
    runs, timelines = {decode_plan(hq.job().plan.payload).run_id}, {hq.records()["timeline"]}
    for turn in (1, 2):
        restore_backup(hq.config, file, replacing=True, now=NOW + turn)
        runs.add(decode_plan(hq.job().plan.payload).run_id)
        timelines.add(hq.records()["timeline"])
    assert len(runs) == len(timelines) == 3


def record(hq: Headquarters, *numbers: int) -> None:
    hq.transact(lambda t: AuditLog(hq.signatory.key).append(t, *map(entry, numbers)))


def check_log(hq: Headquarters) -> list[AuditRecord]:
    """Return the records of a log that is sound."""

    def work(t: Transaction) -> list[AuditRecord]:
        assert verify_log(t, hq.signatory.key.public_key(), (), lambda *_: None).is_sound
        return list(t.audit_records_after(0, 100))

    found: list[AuditRecord] = hq.transact(work)
    return found


def test_a_restore_keeps_the_longer_audit_log_and_is_recorded(hq: Headquarters, tmp_path: Path) -> None:
    record(hq, 1, 2, 3)
    file = hq.backup(tmp_path / "backup.tar")
    in_backup = check_log(hq)[-1]
    record(hq, 4, 5)
    before = check_log(hq)
    hq.restore(file)
    *kept, restored = check_log(hq)
    assert kept == before
    assert restored.kind == "restored"
    facts = json.loads(restored.facts)
    assert (facts["backup_sequence"], facts["backup_head"]) == (3, in_backup.head)
    assert facts["taken_at_ms"] == round(TAKEN * 1000)


@pytest.mark.parametrize("with_a_start_under_other_keys", [False, True])
def test_a_restore_elsewhere_goes_on_from_the_backup_s_log(
    hq: Headquarters, found: Found, tmp_path: Path, with_a_start_under_other_keys: bool
) -> None:
    record(hq, 1, 2, 3)
    file = hq.backup(tmp_path / "backup.tar")
    other = found("other", "folder")
    if with_a_start_under_other_keys:
        record(other, 1, 2, 3, 4)
    shutil.copytree(hq.folder.pki, other.folder.pki, dirs_exist_ok=True)
    other.restore(file)
    *brought, restored = check_log(other)
    assert brought == check_log(hq)
    assert restored.kind == "restored"


def test_what_happened_to_the_fleet_since_the_backup_stays(hq: Headquarters, tmp_path: Path) -> None:
    file = hq.backup(tmp_path / "backup.tar")

    def live_on(t: Transaction) -> None:
        t.put_site(enrolled("plant-a", revoked_at=50.0))
        t.put_site(enrolled("plant-c", at=60.0))
        t.put_token(replace(open_token("plant-c"), used_at=60.0, keys_hash=b"k" * 32))
        t.put_site(enrolled("plant-b", at=70.0))

    hq.transact(live_on)
    assert hq.restore(file).knew_fleet
    records = hq.records()
    assert records["sites"] == [
        enrolled("plant-a", revoked_at=50.0),
        enrolled("plant-b", at=70.0),
        enrolled("plant-c", at=60.0),
    ]
    assert [token.expires_at for token in records["tokens"]] == [NOW]


@pytest.mark.parametrize(
    ("backup", "present", "merged"),
    [
        (enrolled("a", 1.0), enrolled("a", 2.0), enrolled("a", 2.0)),
        (enrolled("a", 2.0), enrolled("a", 1.0), enrolled("a", 2.0)),
        (enrolled("a", 1.0, revoked_at=5.0), enrolled("a", 2.0), enrolled("a", 2.0)),
        (enrolled("a", 1.0, revoked_at=5.0), enrolled("a", 1.0), enrolled("a", 1.0, revoked_at=5.0)),
        (enrolled("a", 1.0), enrolled("a", 1.0, revoked_at=6.0), enrolled("a", 1.0, revoked_at=6.0)),
    ],
)
def test_the_later_enrolment_counts_and_revocation_in_either(
    backup: SiteRecord, present: SiteRecord, merged: SiteRecord
) -> None:
    assert merge_sites([backup], [present]) == (merged,)


def test_a_backup_holds_nothing_of_a_transaction_that_is_not_finished(hq: Headquarters, tmp_path: Path) -> None:
    place = records_place(hq.config)

    async def write_meanwhile() -> None:
        store = open_store(place)

        def write(t: Transaction) -> None:
            t.put_site(enrolled("plant-x"))
            # neither waits for the other, on the thread that writes
            hq.backup(tmp_path / "during.tar")
            t.put_site(enrolled("plant-y"))

        await store.transact("write", write)
        await asyncio.to_thread(hq.backup, tmp_path / "after.tar")
        await store.close()

    asyncio.run(write_meanwhile())
    assert names_in(tmp_path / "during.tar", tmp_path) == {"plant-a", "plant-b"}
    assert names_in(tmp_path / "after.tar", tmp_path) == {"plant-a", "plant-b", "plant-x", "plant-y"}


def names_in(backup: Path, folder: Path) -> set[str]:
    with tarfile.open(backup) as archive:
        content = archive.extractfile("ravan.db")
        assert content is not None
        records = folder / f"{backup.stem}.db"
        records.write_bytes(content.read())
    found: set[str] = read_records(records, lambda t: {site.name for site in t.list_sites()})
    return found


@pytest.fixture
def alone(found: Found) -> Headquarters:
    return filled(found("hq", "folder"))


def test_a_backup_is_for_its_owner_alone_and_never_overwrites(alone: Headquarters, tmp_path: Path) -> None:
    file = alone.backup(tmp_path / "backup.tar")
    assert file.stat().st_mode & 0o077 == 0
    content = file.read_bytes()
    with pytest.raises(StateError) as caught:
        alone.backup(file)
    assert caught.value.reason is ErrorReason.ALREADY_EXISTS
    assert file.read_bytes() == content


def test_a_version_of_the_past_may_be_missing_but_nothing_that_is_needed(alone: Headquarters, tmp_path: Path) -> None:
    blobs, job = open_blobs(alone.config), alone.job()
    (done, _) = alone.transact(lambda t: t.list_rounds(job.job_id))
    blobs.remove(done.sums_digest, before=float("inf"))
    alone.backup(tmp_path / "without-sums.tar")
    blobs.remove(job.evaluation_digest, before=float("inf"))
    with pytest.raises(TransferError) as caught:
        alone.backup(tmp_path / "without-data.tar")
    assert caught.value.reason is ErrorReason.BLOB_MISSING
    assert {path.name for path in tmp_path.iterdir()} == {"hq", "without-sums.tar"}


def test_a_job_without_all_of_its_blobs_is_restored_as_paused(alone: Headquarters, tmp_path: Path) -> None:
    file = alone.backup(tmp_path / "backup.tar", with_blobs=False)
    assert alone.restore(file).incomplete == ()
    shutil.rmtree(alone.folder.blobs)
    assert alone.restore(file).incomplete == ("going-on",)
    job = alone.job()
    assert job.state is JobState.PAUSED
    assert "put them back" in job.message


def spoil(backup: Path, how: str) -> None:
    content = bytearray(backup.read_bytes())
    match how:
        case "cut off":
            del content[len(content) // 2 :]
        case "no archive":
            content[:] = b"no archive at all" * 100
        case "other archive":
            with tarfile.open(backup, "w") as archive:
                archive.add(__file__, "readme.txt")
            return
        case "records":
            # a byte of the records, which lie behind the facts and two headers
            content[8192] ^= 1
        case "blob":
            content[content.rindex(b"version 1")] ^= 1
        case "other keys":
            start = content.index(b'"manifest_key": "') + 17
            content[start : start + 64] = b"0" * 64
    backup.write_bytes(content)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("cut off", ErrorReason.MALFORMED),
        ("no archive", ErrorReason.MALFORMED),
        ("other archive", ErrorReason.MALFORMED),
        ("records", ErrorReason.HASH_MISMATCH),
        ("blob", ErrorReason.HASH_MISMATCH),
        ("other keys", ErrorReason.IDENTITY_MISMATCH),
    ],
)
def test_a_damaged_backup_changes_nothing(alone: Headquarters, tmp_path: Path, how: str, reason: ErrorReason) -> None:
    file = alone.backup(tmp_path / "backup.tar")
    before = alone.records()
    blobs = open_blobs(alone.config)
    blobs.remove(alone.job().state_digest, before=float("inf"))
    spoil(file, how)
    with pytest.raises(RavanError) as caught:
        alone.restore(file)
    assert caught.value.reason is reason
    assert caught.value.next_step
    assert alone.records() == before
    assert not blobs.exists(alone.job().state_digest)
    assert not list(blobs.incoming.iterdir())
    assert not list(alone.folder.root.glob("restore-*"))


def test_records_are_not_replaced_unasked_nor_under_a_daemon(alone: Headquarters, tmp_path: Path) -> None:
    file = alone.backup(tmp_path / "backup.tar")
    before = alone.records()
    with pytest.raises(StateError) as caught:
        alone.restore(file, replacing=False)
    assert caught.value.reason is ErrorReason.ALREADY_EXISTS
    assert "--replace" in caught.value.next_step
    with hold_data_folder(alone.folder), pytest.raises(StateError) as caught:
        alone.restore(file)
    assert caught.value.reason is ErrorReason.WRONG_STATE
    assert alone.records() == before


def test_a_restore_that_fails_at_the_last_job_changes_nothing(alone: Headquarters, tmp_path: Path) -> None:
    plan = replace(alone.job().plan, signature=bytes(64))
    foreign = replace(alone.job(), job_id=JobId("z"), request_id="z", plan=plan)
    alone.transact(lambda t: t.put_job(foreign))
    file = alone.backup(tmp_path / "backup.tar")
    alone.transact(lambda t: t.put_site(enrolled("plant-x")))
    before = alone.records()
    with pytest.raises((ProtocolError, IdentityError)):
        alone.restore(file)
    assert alone.records() == before


def test_a_backup_says_what_it_is(alone: Headquarters, tmp_path: Path) -> None:
    with tarfile.open(alone.backup(tmp_path / "backup.tar")) as archive:
        first = archive.next()
        assert first is not None
        content = archive.extractfile(first)
        assert content is not None
        facts = json.loads(content.read())
    assert first.name == "backup.json"
    assert (facts["format"], facts["taken_at"], facts["blobs"]) == (1, TAKEN, True)
