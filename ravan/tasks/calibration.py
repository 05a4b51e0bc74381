"""A loss that knows how a site's labels are distributed, so that the shared classifier need not learn it.

A site that has few or no examples of a class otherwise teaches the classifier that the class is rare, in the features
as well, and the mean over sites does not undo it. Adding the logarithm of the site's own frequencies to the logits
while training takes that lesson out (Menon et al. 2021, arXiv 2007.07314, equation 10; in federations Zhang et al.
2022, arXiv 2209.00189), and subtracting that of the frequencies to expect puts the right one in. A class that the site
has no example of drops out of its loss: the site can teach nothing about it. Counts stay at the site.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from ravan.tasks.batch import Batch
from ravan.tasks.frequencies import own_frequencies
from ravan.tasks.task_model import EncodedExamples, TaskModel
from ravan.tasks.wrapped_task import WrappedTask

_ABSENT: Final = -1e4
"""Added to the logit of a class that is not there: its probability is exactly 0, and every loss and gradient finite."""


class CalibratedTask(WrappedTask):
    """A task whose loss takes a site's label frequencies for what they are; nothing else differs."""

    def __init__(self, inner: TaskModel[Any], own: Sequence[float], expected: Sequence[float]) -> None:
        """Take the site's frequencies, and those that the trained model is to expect, which are above 0; by label."""
        super().__init__(inner)
        ratios = torch.tensor(own, dtype=torch.float64) / torch.tensor(expected, dtype=torch.float64)
        self._shift = ratios.log().clamp(min=_ABSENT).float()  # (classes,)

    def losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the losses of shifted logits."""
        return super().losses(logits + self._shift.to(logits.device), batch)


def calibrate(task: TaskModel[Any], data: EncodedExamples, expected: Sequence[float]) -> TaskModel[Any]:
    """Return the task to train by on a site's data: as it is where nothing is `expected`, or examples have answers."""
    if not expected or data.label_ids is None:
        return task
    return CalibratedTask(task, own_frequencies(data.label_ids, len(expected)), expected)
