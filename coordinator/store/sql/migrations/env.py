"""Alembic's entry point: run the migrations on the connection that the store hands over."""

from __future__ import annotations

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=None, render_as_batch=True, transactional_ddl=False)
context.run_migrations()
