"""Correct a job's profile by what training turned out to take. Pure."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from ravan.manifest.profile import JobProfile

LEAST_GROWTH: Final = 1.2
"""Predictions are good to a fifth, and how far a training that was given up would have grown nobody knows."""


def correct_profile(profile: JobProfile, matrices: int, seen_bytes: int) -> JobProfile:
    """Return the profile after training the top `matrices` was given up at `seen_bytes` of resident memory.

    All that training takes over the loaded model grows by the same factor: by it this allocation was underestimated.
    """
    predicted = max(1, profile.extra_bytes(matrices))
    factor = max(LEAST_GROWTH, (seen_bytes - profile.ram_loaded_bytes) / predicted)
    return replace(
        profile,
        ram_floor_bytes=math.ceil(profile.ram_floor_bytes * factor),
        ram_per_matrix_bytes=math.ceil(profile.ram_per_matrix_bytes * factor),
        ram_reached_bytes=tuple(math.ceil(each * factor) for each in profile.ram_reached_bytes),
    )
