"""Records for store tests, with every optional field set."""

from __future__ import annotations

from coordinator.store.records import (
    DropRecord,
    JobProfileRecord,
    JobRecord,
    ModelRecord,
    RoundRecord,
    SiteRecord,
    SiteRoundRecord,
    TokenRecord,
)
from ravan.ids import BlockId, BlockKind, Digest, JobId, RunId, SiteId
from ravan.manifest.documents import SignedDocument
from ravan.manifest.instructions import RoundResult
from ravan.manifest.phases import DropReason, JobState, RoundOutcome, RoundPhase
from ravan.manifest.plan import ModelFile
from ravan.manifest.profile import HardwareProfile, JobProfile, LimitSource

HEAD = BlockId(BlockKind.HEAD, 65535, (1 << 24) - 1, 65535)
"""The largest block id: its packed form needs more than 53 bits, and would not survive as a float."""

DENSE = BlockId(BlockKind.DENSE, 0, 1, 0)

HARDWARE = HardwareProfile(
    cores=4,
    ram_total_bytes=8 << 30,
    ram_limit_bytes=1 << 30,
    ram_limit_source=LimitSource.CGROUP,
    disk_free_bytes=1 << 40,
    aes_instructions=True,
    cpu_capability="AVX2",
    agent_version="0.1.0",
)


def digest(fill: int) -> Digest:
    return Digest(bytes([fill]) * 32)


def token(token_id: str = "t1", created_at: float = 1.0, used_at: float | None = None) -> TokenRecord:  # noqa: S107 - an id, no secret
    return TokenRecord(
        token_id=token_id,
        secret_hash=digest(1),
        site=SiteId("plant-a"),
        created_at=created_at,
        expires_at=created_at + 0.1,
        used_at=used_at,
        keys_hash=digest(2) if used_at else None,
    )


def site(name: str = "plant-a", hardware: HardwareProfile | None = HARDWARE) -> SiteRecord:
    return SiteRecord(
        name=SiteId(name),
        identity_key=digest(3),
        certificate_pem=b"-----BEGIN",
        certificate_serial="ff01",
        certificate_expires_at=1e9,
        enrolled_at=2.5,
        last_seen=3.5,
        revoked_at=4.5,
        hardware=hardware,
        endorsement=bytes(range(64)),
        previous_serial="ff00",
        previous_expires_at=5e8,
    )


def model(name: str = "minilm") -> ModelRecord:
    files = (ModelFile(path="config.json", sha256=digest(4), size_bytes=612),)
    return ModelRecord(
        name=name, files=files, digest=digest(5), model_type="bert", parameters=22_713_216, added_at=1.25
    )


def job(job_id: str = "j1", name: str = "orders", submitted_at: float = 1.0) -> JobRecord:
    return JobRecord(
        job_id=JobId(job_id),
        name=name,
        state=JobState.RUNNING,
        message="Round 3 trains.",
        submitted_at=submitted_at,
        request_id=f"request of {job_id}",
        job_toml='[job]\nname = "ü"\n',
        plan=SignedDocument(payload=b"\x00plan", signature=bytes(64)),
        model="minilm",
        evaluation_digest=digest(6),
        rounds_planned=12,
        state_digest=digest(7),
        accuracy_before=0.1,
        accuracy=0.7683467823,
        loss_before=2.0794415416798357,
        loss=0.6931471805599453,
    )


def job_profile(job_id: str = "j1", name: str = "plant-a", floor: float = 0.25) -> JobProfileRecord:
    profile = JobProfile(
        plan_digest=digest(8),
        ram_loaded_bytes=1 << 33,
        ram_floor_bytes=2,
        ram_per_matrix_bytes=3,
        step_floor_s=floor,
        step_per_matrix_s=0.1,
        ram_reached_bytes=(5, 1 << 33),
        step_reached_s=(0.35, 0.5),
    )
    return JobProfileRecord(job_id=JobId(job_id), site=SiteId(name), profile=profile)


def finished_round(job_id: str = "j1", number: int = 1) -> RoundRecord:
    a, b, c = SiteId("plant-a"), SiteId("plant-b"), SiteId("plant-c")
    return RoundRecord(
        job_id=JobId(job_id),
        number=number,
        phase=RoundPhase.ENDED,
        outcome=RoundOutcome.COMMITTED,
        started_at=1.5,
        deadline_at=2.5,
        phase_seconds={RoundPhase.TRAINING: 10.5, RoundPhase.SHARING: 0.1},
        selected=(a, b, c),
        completed=(a, b),
        dropped=(DropRecord(site=c, phase=RoundPhase.UPLOADING, reason=DropReason.DISCONNECTED),),
        sites=(
            SiteRoundRecord(
                site=a,
                heads=48,
                ram_limit_bytes=1 << 30,
                upload_bytes=99,
                peak_rss_bytes=5,
                extra_peak_bytes=4,
                step_cpu_s=0.3,
            ),
        ),
        cohorts={HEAD: 2},
        scores={HEAD: 0.1234567890123456},
        withheld=(HEAD,),
        accuracy=0.5,
        loss=1.2345678901234567,
        clip_rate=0.0,
        training_loss=1.1,
        state_digest=digest(9),
        sums_digest=digest(10),
        clips={DENSE: 8.0, HEAD: 0.1},
    )


def begun_round(job_id: str = "j1", number: int = 2) -> RoundRecord:
    return RoundRecord(job_id=JobId(job_id), number=number, phase=RoundPhase.TRAINING, outcome=None, started_at=9.0)


def result(number: int) -> RoundResult:
    return RoundResult(
        run_id=RunId(bytes(16)),
        round_number=number,
        outcome=RoundOutcome.COMMITTED,
        state_digest=digest(1),
        dropped=False,
    )
