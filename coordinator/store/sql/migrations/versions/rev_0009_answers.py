"""What operators were answered, by request id."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make room for it; calls of before are not repeated any more."""
    op.create_table(
        "answers",
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("call_hash", sa.LargeBinary, nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.Column("answered_at", sa.Float, nullable=False),
    )
