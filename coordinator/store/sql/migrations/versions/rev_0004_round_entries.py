"""What a running round has heard, so that it goes on after a restart."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make room for the entries; a round that was running under the older release has none and is interrupted."""
    op.create_table(
        "round_entries",
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.job_id", name="fk_round_entries_job_id"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("word", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_round_entries_job_id", "round_entries", ["job_id", "number"])
