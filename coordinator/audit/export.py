"""Writing the records of a period to a file, for auditors and their tools."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

from coordinator.audit.chain import AuditRecord
from ravan.disk import move_durably, room_in

COLUMNS = ("sequence", "time", "at_ms", "kind", "actor", "subject", "facts", "head")


class ExportFormat(StrEnum):
    """What the file is."""

    CSV = "csv"
    JSON = "json"


def write_export(path: Path, records: Iterable[AuditRecord], form: ExportFormat) -> int:
    """Write the records, readable by the owner alone, and return how many; a file that is there is replaced whole.

    Raises ResourceError (DISK_FULL), OSError.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        with room_in(path.parent):
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                count = _WRITERS[form](file, records)
                file.flush()
                os.fsync(descriptor)
        move_durably(part, path)
    finally:
        part.unlink(missing_ok=True)
    return count


def _write_csv(file: IO[str], records: Iterable[AuditRecord]) -> int:
    rows = csv.writer(file)
    rows.writerow(COLUMNS)
    count = 0
    for count, record in enumerate(records, start=1):  # noqa: B007 - the last is the number
        row = _row_of(record)
        rows.writerow([row[column] for column in COLUMNS])
    return count


def _write_json(file: IO[str], records: Iterable[AuditRecord]) -> int:
    count = 0
    file.write("[")
    for count, record in enumerate(records, start=1):
        file.write(",\n" if count > 1 else "\n")
        json.dump(_row_of(record), file)
    file.write("\n]\n")
    return count


def _row_of(record: AuditRecord) -> dict[str, Any]:
    """Return a record with its time in words; `facts` stays the text that is hashed."""
    time = _time_of(record.at_ms)
    return {column: time if column == "time" else getattr(record, column) for column in COLUMNS}


def _time_of(at_ms: int) -> str:
    """Return the time as ISO 8601; empty for a number that is none, as in a record that was altered."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (TypeError, ValueError, OverflowError, OSError):
        return ""


_WRITERS: dict[ExportFormat, Callable[[IO[str], Iterable[AuditRecord]], int]] = {
    ExportFormat.CSV: _write_csv,
    ExportFormat.JSON: _write_json,
}
