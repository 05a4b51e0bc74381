"""Which image has which label: told by the folder that it lies in, or by a CSV file that lists them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final

from ravan.data.cells import text_of
from ravan.data.csv_table import csv_rows
from ravan.data.image_files import ImageFiles
from ravan.data.labels import printable
from ravan.data.source import DataSource, TableFormat, cannot_open
from ravan.data.tables import Refuse, raise_refusal
from ravan.errors import DataError

_SHOWN_NAME: Final = 200
"""Most characters of a file's name that a sentence repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledFile:
    """An image before anybody looked into it."""

    name: PurePosixPath
    label: str
    place: str
    """How a sentence about it begins."""
    present: bool
    """Whether there is such a file."""


def labelled_files(source: DataSource, files: ImageFiles, refuse: Refuse = raise_refusal) -> Iterator[LabelledFile]:
    """Yield images in the order of their names, or of the list; raise DataError DATA_UNREADABLE.

    What a list names is looked for among the image files of the folder and nowhere else.
    """
    names = files.names()
    if not source.labels:
        for name in names:
            place = f"{source.name}, {printable(str(name), _SHOWN_NAME)},"
            yield LabelledFile(name=name, label=name.parent.name, place=place, present=True)
        return
    known = frozenset(names)
    listed = replace(source, name=f"{source.name}, {source.labels}", format=TableFormat.CSV)
    try:
        content = files.read(PurePosixPath(source.labels))
    except OSError as error:
        raise cannot_open(listed.name, error) from None
    for line, cells in csv_rows(listed, (source.file, source.label), lambda: io.BytesIO(content)):
        if isinstance(cells, DataError):
            refuse(cells)
            continue
        # Lists made on Windows have its separators.
        name = PurePosixPath(text_of(cells[source.file]).strip().replace("\\", "/"))
        label = text_of(cells[source.label]).strip()
        yield LabelledFile(name=name, label=label, place=listed.place(line), present=name in known)
