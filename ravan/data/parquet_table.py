"""Parquet, some thousand rows at a time and the wanted columns alone; pyarrow is imported where it is configured."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

from ravan.data.cells import Outcomes, find_columns, typed_cells
from ravan.data.encodings import OpenBytes
from ravan.data.labels import printable
from ravan.data.source import DataSource, not_installed, unreadable

_BATCH_ROWS: Final = 4096
_SHOWN: Final = 200
"""Most characters of what the library says."""


def parquet_rows(source: DataSource, wanted: Sequence[str], open_bytes: OpenBytes) -> Outcomes:
    """Yield the rows of a table; raise DataError DATA_UNREADABLE, OSError from opening it."""
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415 - only where such a file is configured
    except ImportError:
        raise not_installed(source.name, "a Parquet file", "edge,parquet") from None
    with open_bytes() as file:
        try:
            table = parquet.ParquetFile(file)
            find_columns(source, table.schema_arrow.names, wanted)
            rows = (
                row for batch in table.iter_batches(_BATCH_ROWS, columns=list(wanted)) for row in _rows(batch, wanted)
            )
            for number, values in enumerate(rows, start=1):
                yield number, typed_cells(source.place(number), wanted, values)
        # Damaged files surface as any of these, OSError without a number among them.
        except (ArrowException, OSError, ValueError, MemoryError) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            words = str(error).splitlines() or [type(error).__name__]
            raise unreadable(
                f"{source.name} is no sound Parquet file: {printable(words[0], _SHOWN)}.", "Export the table again."
            ) from None


def _rows(batch: Any, wanted: Sequence[str]) -> Iterator[tuple[object, ...]]:
    columns = [_values(batch.column(column)) for column in wanted]
    return zip(*columns, strict=True)


def _values(column: Any) -> list[object]:
    from pyarrow import ArrowNotImplementedError, timestamp, types  # noqa: PLC0415 - see above

    if types.is_timestamp(column.type):
        # Python's own times have no nanoseconds.
        column = column.cast(timestamp("us", column.type.tz), safe=False)
    with contextlib.suppress(ArrowNotImplementedError):
        values: list[object] = column.to_pylist()
        return values
    return [object()] * len(column)
