"""How large heads may be: the trained numbers of a matrix against those of plain LoRA."""

from __future__ import annotations

import math


def rank_for_budget(out_features: int, in_features: int, lora_rank: int, heads: int) -> int:
    """Return the largest r for which `heads` cores of r x r hold no more numbers than LoRA of `lora_rank`.

    LoRA trains (out + in) x rank numbers per matrix, Ravan heads x r^2 (paper section 3). At least 1.
    """
    return max(1, math.isqrt((out_features + in_features) * lora_rank // heads))


def largest_rank(out_features: int, in_features: int, heads: int) -> int:
    """Return the largest r at which `heads` orthogonal bases fit the matrix; 0 if none does."""
    return min(out_features, in_features) // heads
