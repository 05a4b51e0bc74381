"""Timelines, which a restore begins anew, and parameter counts beyond 32 bits."""

from __future__ import annotations

import os
import time

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Begin the database's first timeline; widen a column that PostgreSQL takes at its word."""
    timelines = op.create_table(
        "timelines",
        sa.Column("timeline", sa.LargeBinary, primary_key=True),
        sa.Column("began_at", sa.Float, nullable=False),
    )
    op.bulk_insert(timelines, [{"timeline": os.urandom(16), "began_at": time.time()}])
    with op.batch_alter_table("models") as models:
        models.alter_column("parameters", type_=sa.BigInteger, existing_type=sa.Integer, existing_nullable=False)
