"""The database's schema: brought up to date on opening, refused when a newer release wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from ravan.errors import ErrorReason, StateError

REVISION: Final = "0010"
"""Newest migration of this release."""

KNOWN: Final = frozenset({"0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", REVISION})
"""Every migration of this release; a database at any other revision is from a newer one."""

MIGRATIONS: Final = Path(__file__).parent / "migrations"


def revision_of(connection: Connection) -> str | None:
    """Return the revision that the database is at, or None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def upgrade_schema(connection: Connection, *, alone: bool = True) -> bool:
    """Bring the schema up to date within the caller's transaction; tell whether there was anything to do.

    Raises StateError (WRONG_STATE) when a newer release has written the database, or when it is out of date and
    others work with it.
    """
    revision = revision_of(connection)
    if revision == REVISION:
        return False
    if revision is not None and revision not in KNOWN:
        raise StateError(
            f"The database was written by a newer release (schema {revision}; this one knows up to {REVISION}).",
            reason=ErrorReason.WRONG_STATE,
            next_step="Install that release or a newer one, or restore a backup that this release has made.",
        )
    if not alone:
        raise StateError(
            f"The database is at schema {revision or 'none'}, this release needs {REVISION}, and others work with it.",
            reason=ErrorReason.WRONG_STATE,
            next_step="Stop all coordinators and workers on it, then start one of this release.",
        )
    migrate(connection)
    return True


def migrate(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to a revision, within the caller's transaction."""
    # imported here since it takes longer than all the rest, and an up-to-date database needs none of it
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
