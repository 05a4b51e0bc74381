"""Predictions as lines: CSV for spreadsheets, one JSON object a line for programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from edge_agent.serving.predictor import Prediction

Write = Callable[[Prediction], None]
"""Writes one prediction, which whoever reads the other end can use at once."""


def json_fields(prediction: Prediction) -> dict[str, Any]:
    """Return what programs get of a prediction."""
    if prediction.fault:
        return {"row": prediction.place, "error": prediction.fault}
    found = {"row": prediction.place, "label": prediction.label}
    return found | ({"probabilities": dict(prediction.probabilities)} if prediction.probabilities else {})


def json_lines(out: TextIO) -> Write:
    """Return a writer of JSON objects."""

    def write(prediction: Prediction) -> None:
        out.write(json.dumps(json_fields(prediction), ensure_ascii=False) + "\n")
        out.flush()

    return write


def csv_lines(out: TextIO, labels: Sequence[str]) -> Write:
    """Return a writer of CSV whose header stands there at once; a prediction with a fault has a row and no label.

    `labels` are those with probabilities; empty for answers.
    """
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["row", "label", *(f"p({label})" for label in labels)])
    out.flush()

    def write(prediction: Prediction) -> None:
        shares = (f"{prediction.probabilities[label]:.6f}" if prediction.probabilities else "" for label in labels)
        writer.writerow([prediction.place, prediction.label, *shares])
        out.flush()

    return write
