"""Correct a job's profile by what training turned out to take. Pure."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from ravan.manifest.profile import JobProfile

LEAST_GROWTH: Final = 1.2
"""Predictions are good to a fifth, and how far a training that was given up would have grown nobody knows."""

SPARE: Final = 1.1
"""The coordinator asks for a little more than the predicted peak; so much over it is certainly allotted."""


def correct_profile(profile: JobProfile, matrices: int, seen_bytes: int, *, least: int, limit_bytes: int) -> JobProfile:
    """Return the profile after training the top `matrices` was given up at `seen_bytes` of resident memory.

    All that training takes over the loaded model grows by the same factor: by it this allocation was underestimated.
    What was seen counts in full. What is only guessed, as where the system ended a training of which nothing was seen
    (0), never lifts the smallest allocation, the top `least` matrices, over the limit, where it was within it: the job
    would have no round any more in which the guess could turn out to be wrong.
    """
    seen = (seen_bytes - profile.ram_loaded_bytes) / max(1, profile.extra_bytes(matrices))
    highest = (limit_bytes / SPARE - profile.ram_loaded_bytes) / max(1, profile.extra_bytes(least))
    factor = max(1.0, seen, min(LEAST_GROWTH, highest))
    return replace(
        profile,
        ram_floor_bytes=math.ceil(profile.ram_floor_bytes * factor),
        ram_per_matrix_bytes=math.ceil(profile.ram_per_matrix_bytes * factor),
        ram_reached_bytes=tuple(math.ceil(each * factor) for each in profile.ram_reached_bytes),
    )
