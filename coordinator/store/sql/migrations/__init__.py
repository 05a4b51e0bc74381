"""Migrations, run by Alembic inside the coordinator; each is written by hand and never changed once released."""
