"""Whether examples have changed since they were read, found out without reading them again."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ravan.data.postgresql_query import fingerprint_query
from ravan.data.source import DataSource, TableFormat, cannot_open

Stamp = tuple[int, ...]
"""Differs when the examples do."""

_BESIDE: Final = ("-wal",)
"""What an SQLite file's name ends with where its newest rows are."""


def read_stamp(source: DataSource) -> Stamp:
    """Return the sizes and dates of files, or what a server says of its rows; raise DataError DATA_UNREADABLE.

    Blocks on the disk or the server.
    """
    if source.format is TableFormat.POSTGRESQL:
        return fingerprint_query(source)
    try:
        states = [path.stat() for path in _files(source)]
    except OSError as error:
        raise cannot_open(source.name, error) from error
    return len(states), max(state.st_mtime_ns for state in states), sum(state.st_size for state in states)


def _files(source: DataSource) -> list[Path]:
    if source.path.is_dir():
        return [source.path, *sorted(source.path.rglob("*"))]
    beside = [source.path.with_name(source.path.name + end) for end in _BESIDE]
    return [source.path, *(path for path in beside if path.exists())]
