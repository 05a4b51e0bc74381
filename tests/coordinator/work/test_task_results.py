"""Results of tasks on their way through the database."""

from __future__ import annotations

import json
import math

import pytest

from coordinator.rounds.results import Evaluation
from coordinator.work.forms import read_evaluation, write_evaluation


@pytest.mark.parametrize("loss", [1 / 3, 0.0, 5e-324, math.inf])
def test_figures_of_a_version_come_back_bit_for_bit(loss: float) -> None:
    found = Evaluation(accuracy=2 / 3, loss=loss)
    stored = json.dumps(dict(write_evaluation(found)), allow_nan=False)
    assert read_evaluation(json.loads(stored)) == found
