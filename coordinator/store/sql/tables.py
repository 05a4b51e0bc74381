"""Tables as the newest migration leaves them: columns for what is looked up, JSON for what is only read whole."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
)

METADATA: Final = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_name)s", "fk": "fk_%(table_name)s_%(column_0_name)s"}
)

TOKENS: Final = Table(
    "tokens",
    METADATA,
    Column("token_id", Text, primary_key=True),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("site", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("used_at", Float),
    Column("keys_hash", LargeBinary),
)

SITES: Final = Table(
    "sites",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("identity_key", LargeBinary, nullable=False),
    Column("certificate_pem", LargeBinary, nullable=False),
    Column("certificate_serial", Text, nullable=False),
    Column("certificate_expires_at", Float, nullable=False),
    Column("enrolled_at", Float, nullable=False),
    Column("last_seen", Float, nullable=False),
    Column("revoked_at", Float),
    Column("hardware", JSON(none_as_null=True)),
    Column("endorsement", LargeBinary),
    Column("previous_serial", Text),
    Column("previous_expires_at", Float),
)

MODELS: Final = Table(
    "models",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("files", JSON, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("model_type", Text, nullable=False),
    Column("parameters", BigInteger, nullable=False),
    Column("added_at", Float, nullable=False),
)

JOBS: Final = Table(
    "jobs",
    METADATA,
    Column("job_id", Text, primary_key=True),
    Column("name", Text, nullable=False, index=True),
    Column("state", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("submitted_at", Float, nullable=False),
    Column("request_id", Text, nullable=False, unique=True),
    Column("job_toml", Text, nullable=False),
    Column("plan_payload", LargeBinary, nullable=False),
    Column("plan_signature", LargeBinary, nullable=False),
    Column("model", Text, nullable=False),
    Column("evaluation_digest", LargeBinary, nullable=False),
    Column("rounds_planned", Integer, nullable=False),
    Column("state_digest", LargeBinary, nullable=False),
    Column("accuracy_before", Float),
    Column("accuracy", Float),
    Column("loss_before", Float),
    Column("loss", Float),
)

JOB_PROFILES: Final = Table(
    "job_profiles",
    METADATA,
    Column("job_id", Text, ForeignKey("jobs.job_id"), nullable=False),
    Column("site", Text, nullable=False),
    Column("profile", JSON, nullable=False),
    PrimaryKeyConstraint("job_id", "site"),
)

ROUNDS: Final = Table(
    "rounds",
    METADATA,
    Column("job_id", Text, ForeignKey("jobs.job_id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("phase", Text, nullable=False),
    Column("outcome", Text),
    Column("started_at", Float, nullable=False),
    Column("deadline_at", Float, nullable=False),
    Column("accuracy", Float),
    Column("loss", Float),
    Column("clip_rate", Float),
    Column("training_loss", Float),
    Column("state_digest", LargeBinary, nullable=False),
    Column("sums_digest", LargeBinary, nullable=False),
    Column("details", JSON, nullable=False),
    PrimaryKeyConstraint("job_id", "number"),
)

ROUND_ENTRIES: Final = Table(
    "round_entries",
    METADATA,
    Column("position", Integer, primary_key=True),
    Column("job_id", Text, ForeignKey("jobs.job_id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("site", Text, nullable=False),
    Column("word", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("ix_round_entries_job_id", "job_id", "number"),
)

INSTRUCTIONS: Final = Table(
    "instructions",
    METADATA,
    Column("site", Text, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("job_id", Text, nullable=False),
    Column("round_number", Integer, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    PrimaryKeyConstraint("site", "sequence"),
    Index("ix_instructions_job_id", "job_id", "round_number"),
)

SEQUENCES: Final = Table(
    "instruction_sequences",
    METADATA,
    Column("site", Text, primary_key=True),
    # stays when instructions go: a number must never come twice, or an agent would skip an instruction
    Column("last", Integer, nullable=False),
)

TIMELINES: Final = Table(
    "timelines",
    METADATA,
    Column("timeline", LargeBinary, primary_key=True),
    Column("began_at", Float, nullable=False),
)
"""The newest row names the database as it goes on since it was made or last restored."""

ANSWERS: Final = Table(
    "answers",
    METADATA,
    Column("request_id", Text, primary_key=True),
    Column("call_hash", LargeBinary, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Column("answered_at", Float, nullable=False),
)

ENDURING: Final = "enduring"
"""Marks tables that a restore leaves as they are where they are further on than those of the backup."""

AUDIT_RECORDS: Final = Table(
    "audit_records",
    METADATA,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("subject", Text, nullable=False),
    # text, not JSON: the very characters are hashed
    Column("facts", Text, nullable=False),
    Column("head", Text, nullable=False),
    info={ENDURING: True},
)

AUDIT_CHECKPOINTS: Final = Table(
    "audit_checkpoints",
    METADATA,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("head", Text, nullable=False),
    Column("signature", Text, nullable=False),
    info={ENDURING: True},
)

AUDIT_SEALS: Final = Table(
    "audit_seals",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("head", Text, nullable=False),
    Column("signature", Text, nullable=False),
    info={ENDURING: True},
)
"""One row: the newest head."""

PASSING: Final = "passing"
"""Marks tables that tell of the moment: no backup has them, and a restore leaves them as they are."""

LEASES: Final = Table(
    "leases",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("taken_at", Float, nullable=False),
    Column("until", Float, nullable=False),
    info={PASSING: True},
)

TASKS: Final = Table(
    "tasks",
    METADATA,
    Column("task_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("job_id", Text, nullable=False),
    Column("round_number", Integer, nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("put_at", Float, nullable=False),
    Column("state", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("taken_at", Float, nullable=False),
    Column("until", Float, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("result", JSON, nullable=False),
    info={PASSING: True},
)
