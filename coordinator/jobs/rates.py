"""At which rates a job trains that names none: what suited its task in the laboratory (docs/accuracy/README.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ravan.manifest.plan import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Learning rates of the heads, and of what a model has beside them that is trained whole."""

    heads: float
    dense: float


USUAL_RATES: Final[Mapping[Task, Rates]] = {
    Task.SEQUENCE_CLASSIFICATION: Rates(heads=1e-2, dense=2e-2),
    Task.IMAGE_CLASSIFICATION: Rates(heads=1e-2, dense=1e-3),
    Task.SERIES_CLASSIFICATION: Rates(heads=3e-3, dense=1e-3),
    Task.CAUSAL_LM: Rates(heads=5e-3, dense=2e-2),
}
