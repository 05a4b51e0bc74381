"""How frequent labels are among examples; imports no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def label_frequencies(label_ids: NDArray[np.int64], labels: int) -> tuple[float, ...]:
    """Return how frequent each of so many labels is, with one example more of each, so that none is at 0."""
    counts = np.bincount(label_ids, minlength=labels) + 1
    return tuple((counts / counts.sum()).tolist())
