"""Labels of examples as numbers; one that a job does not know is refused, since it would be trained in silence."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Final

from ravan.errors import DataError, ErrorReason

_SHOWN_CHARACTERS: Final = 40
"""Most characters of a cell that a sentence repeats."""


class LabelIndex:
    """Look labels up in a job's list."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._ids = {label: index for index, label in enumerate(labels)}

    def look_up(self, label: str, place: str) -> int:
        """Return the label's position; raise DataError DATA_UNKNOWN_LABEL that names the `place` where it stands."""
        if label not in self._ids:
            raise self._unknown(label, place)
        return self._ids[label]

    def _unknown(self, label: str, place: str) -> DataError:
        near = difflib.get_close_matches(label, self._labels, n=1)
        if not label:
            sentence = f"{place} has no label."
        else:
            sentence = f"{place} has the label '{printable(label)}', which the job does not know."
        hint = f"Did you mean '{near[0]}'? " if near else ""
        return DataError(
            sentence,
            reason=ErrorReason.DATA_UNKNOWN_LABEL,
            next_step=f"{hint}The job's labels are: {', '.join(self._labels)}. Correct it, or say where labels stand.",
        )


def printable(cell: str, limit: int = _SHOWN_CHARACTERS) -> str:
    """Cut a cell to what a sentence may repeat; control characters would upset the reader's terminal."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in cell[:limit])
