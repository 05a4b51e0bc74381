"""The database: SQLite in WAL mode through SQLAlchemy Core, one writer thread, Alembic migrations."""
