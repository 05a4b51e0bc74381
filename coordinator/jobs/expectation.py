"""How frequent a job's model is to expect each label, where sites differ in what they see."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ravan.tasks.frequencies import label_frequencies


class ExpectedLabels(StrEnum):
    """Where the frequencies that the trained model expects come from."""

    HELD_OUT = "held_out"
    """The held-out examples at headquarters."""
    EQUAL = "equal"
    """All labels are equally frequent."""
    LOCAL = "local"
    """Each site's own: the plain loss, under which sites teach one another what they see often."""


def expected_frequencies(kind: ExpectedLabels, held_out: NDArray[np.int64] | None, labels: int) -> tuple[float, ...]:
    """Return the frequency of each of so many labels; none for the plain loss, or where examples have answers instead.

    `held_out` has the classes of the held-out examples.
    """
    if kind is ExpectedLabels.LOCAL or held_out is None:
        return ()
    return label_frequencies(held_out if kind is ExpectedLabels.HELD_OUT else held_out[:0], labels)
