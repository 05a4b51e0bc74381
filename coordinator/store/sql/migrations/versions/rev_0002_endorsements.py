"""The owner's endorsement of a site's identity."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let sites have an endorsement; none has one yet."""
    with op.batch_alter_table("sites") as sites:
        sites.add_column(sa.Column("endorsement", sa.LargeBinary))
