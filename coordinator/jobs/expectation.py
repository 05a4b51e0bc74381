"""How frequent a job's model is to expect each label, where sites differ in what they see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from coordinator.jobs.jobfile import ExpectedLabels
from ravan.tasks.frequencies import frequencies_to_expect


def expected_frequencies(kind: ExpectedLabels, held_out: NDArray[np.int64] | None, labels: int) -> tuple[float, ...]:
    """Return the frequency of each of so many labels; none for the plain loss, or where examples have answers instead.

    `held_out` has the classes of the held-out examples.
    """
    if kind is ExpectedLabels.LOCAL or held_out is None:
        return ()
    return frequencies_to_expect(held_out if kind is ExpectedLabels.HELD_OUT else held_out[:0], labels)
