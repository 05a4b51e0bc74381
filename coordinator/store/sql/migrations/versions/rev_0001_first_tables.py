"""First tables: tokens, sites, models, jobs, rounds and instructions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create all tables of the first release."""
    _create_fleet()
    _create_jobs()
    _create_rounds()
    _create_instructions()


def _create_fleet() -> None:
    op.create_table(
        "tokens",
        sa.Column("token_id", sa.Text, primary_key=True),
        sa.Column("secret_hash", sa.LargeBinary, nullable=False),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
        sa.Column("used_at", sa.Float),
        sa.Column("keys_hash", sa.LargeBinary),
    )
    op.create_table(
        "sites",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("identity_key", sa.LargeBinary, nullable=False),
        sa.Column("certificate_pem", sa.LargeBinary, nullable=False),
        sa.Column("certificate_serial", sa.Text, nullable=False),
        sa.Column("certificate_expires_at", sa.Float, nullable=False),
        sa.Column("enrolled_at", sa.Float, nullable=False),
        sa.Column("last_seen", sa.Float, nullable=False),
        sa.Column("revoked_at", sa.Float),
        sa.Column("hardware", sa.JSON),
    )


def _create_jobs() -> None:
    op.create_table(
        "models",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("files", sa.JSON, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("model_type", sa.Text, nullable=False),
        sa.Column("parameters", sa.Integer, nullable=False),
        sa.Column("added_at", sa.Float, nullable=False),
    )
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("submitted_at", sa.Float, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False, unique=True),
        sa.Column("job_toml", sa.Text, nullable=False),
        sa.Column("plan_payload", sa.LargeBinary, nullable=False),
        sa.Column("plan_signature", sa.LargeBinary, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("evaluation_digest", sa.LargeBinary, nullable=False),
        sa.Column("rounds_planned", sa.Integer, nullable=False),
        sa.Column("state_digest", sa.LargeBinary, nullable=False),
        sa.Column("accuracy_before", sa.Float),
        sa.Column("accuracy", sa.Float),
    )
    op.create_index("ix_jobs_name", "jobs", ["name"])
    op.create_table(
        "job_profiles",
        sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.job_id", name="fk_job_profiles_job_id"), nullable=False),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("profile", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "site"),
    )


def _create_rounds() -> None:
    op.create_table(
        "rounds",
        sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.job_id", name="fk_rounds_job_id"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("phase", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text),
        sa.Column("started_at", sa.Float, nullable=False),
        sa.Column("deadline_at", sa.Float, nullable=False),
        sa.Column("accuracy", sa.Float),
        sa.Column("loss", sa.Float),
        sa.Column("clip_rate", sa.Float),
        sa.Column("training_loss", sa.Float),
        sa.Column("state_digest", sa.LargeBinary, nullable=False),
        sa.Column("sums_digest", sa.LargeBinary, nullable=False),
        sa.Column("details", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "number"),
    )


def _create_instructions() -> None:
    op.create_table(
        "instructions",
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("round_number", sa.Integer, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("site", "sequence"),
    )
    op.create_index("ix_instructions_job_id", "instructions", ["job_id", "round_number"])
    op.create_table(
        "instruction_sequences",
        sa.Column("site", sa.Text, primary_key=True),
        sa.Column("last", sa.Integer, nullable=False),
    )
