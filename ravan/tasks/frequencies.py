"""How frequent labels are among examples; imports no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def own_frequencies(label_ids: NDArray[np.int64], labels: int) -> tuple[float, ...]:
    """Return how frequent each of so many labels is among examples; there is one at least."""
    return _shares(np.bincount(label_ids, minlength=labels))


def frequencies_to_expect(label_ids: NDArray[np.int64], labels: int) -> tuple[float, ...]:
    """Return them with one example more of each label, so that none is at 0: what was not seen may still come."""
    return _shares(np.bincount(label_ids, minlength=labels) + 1)


def _shares(counts: NDArray[np.int64]) -> tuple[float, ...]:
    return tuple((counts / counts.sum()).tolist())
