"""The certificate that a site's newest was renewed from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make room for it; sites that never renewed have none."""
    op.add_column("sites", sa.Column("previous_serial", sa.Text))
    op.add_column("sites", sa.Column("previous_expires_at", sa.Float))
