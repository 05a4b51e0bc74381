"""A job's losses beside its accuracies: by either a version can be refused."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make room for the figures, and take the newest from the rounds; those before training are not on record."""
    op.add_column("jobs", sa.Column("loss_before", sa.Float))
    op.add_column("jobs", sa.Column("loss", sa.Float))
    op.execute(
        "UPDATE jobs SET loss = (SELECT rounds.loss FROM rounds WHERE rounds.job_id = jobs.job_id"
        " AND rounds.outcome = 'committed' ORDER BY rounds.number DESC LIMIT 1)"
    )
