"""What the workers of a round hand back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ravan.ids import Digest

if TYPE_CHECKING:
    from ravan.secagg.combine import RoundSum


@dataclass(frozen=True, slots=True, kw_only=True)
class SummedRound:
    """The unmasked sums of a round."""

    total: RoundSum
    sums_digest: Digest
    """Blob with the integer sums and the facts to recompute them from."""
    seconds: float
    """How long unmasking took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A model version measured on the held-out examples."""

    accuracy: float
    """Share of right answers, 0 to 1."""
    loss: float
    """Mean cross-entropy."""


def finite_or_none(figure: float) -> float | None:
    """Return a figure as it is put on record: databases and JSON have no number that is not finite."""
    return figure if math.isfinite(figure) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """A combined and measured model version, stored as a blob, not yet committed."""

    state_digest: Digest
    evaluation: Evaluation
