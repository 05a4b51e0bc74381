"""A round through the whole of secure aggregation ends with the bits of one without masks."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from tiny_lab import cohort_of, method_of

from lab.methods.ravan.method import Ravan
from ravan.errors import ProtocolError


def test_masks_change_no_bit() -> None:
    states = []
    for masked in (False, True):
        method = cast(Ravan, method_of("ravan", threshold=3, masked=masked))
        for number in (1, 2):
            method.play(number, cohort_of(method.bench, number))
        states.append(method.state)
    plain, unmasked = states
    assert plain.keys() == unmasked.keys()
    assert all(np.array_equal(plain[block], unmasked[block]) for block in plain)
    assert any(plain[block].any() for block in method.plan.head_ids())


@pytest.mark.parametrize(
    ("clients", "threshold", "sentence"), [(2, 3, "3 to 4096 members, not 2"), (3, 1, "would release sums of 1 sites")]
)
def test_terms_that_agents_refuse_are_refused(clients: int, threshold: int, sentence: str) -> None:
    federation = {"clients": clients, "per_round": clients}
    method = cast(Ravan, method_of("ravan", threshold=threshold, masked=True, federation=federation))
    with pytest.raises(ProtocolError, match=sentence):
        method.play(1, cohort_of(method.bench))
