"""A loss that knows how a site's labels are distributed, so that the shared classifier need not learn it.

A site that has few or no examples of a class otherwise teaches the classifier that the class is rare, in the features as
well; the mean over sites does not undo it. Adding the logarithm of the site's own frequencies to the logits while
training takes that lesson out (Menon et al. 2021, arXiv 2007.07314, equation 10; for federations Zhang et al. 2022,
arXiv 2209.00189). Counts stay at the site.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def label_shift(counts: Sequence[int]) -> Tensor:
    """Return log frequency of each class, (classes,) float32, from a site's counts and one example more of every class.

    The one more keeps a class that a site lacks finite.
    """
    numbers = torch.tensor([count + 1 for count in counts], dtype=torch.float64)
    return (numbers / numbers.sum()).log().float()
