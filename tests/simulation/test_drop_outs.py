"""Who drops out follows from the seed, in the share and at the steps that were asked for."""

from __future__ import annotations

from collections import Counter

import pytest

from simulation.faults import DropOuts
from simulation.steps import Step

SITES = [f"site-{number}" for number in range(1000)]


def test_the_same_seed_cuts_the_same_sites_and_another_seed_others() -> None:
    def cuts(seed: int) -> list[Step | None]:
        return [DropOuts(rate=0.5, seed=seed).step_of(site, 3) for site in SITES]

    assert cuts(1) == cuts(1)
    assert cuts(1) != cuts(2)


@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
def test_about_the_asked_share_is_cut_at_each_of_the_asked_steps(rate: float) -> None:
    steps = (Step.SHARE, Step.REVEAL)
    found = Counter(DropOuts(rate=rate, steps=steps).step_of(site, 1) for site in SITES)
    cut = sum(found[step] for step in steps)
    assert set(found) <= {None, *steps}
    # Four standard deviations of a thousand draws.
    assert abs(cut - 1000 * rate) <= 4 * (1000 * rate * (1 - rate)) ** 0.5
    assert abs(found[Step.SHARE] - found[Step.REVEAL]) <= 4 * cut**0.5


def test_rounds_that_are_not_meant_are_left_alone() -> None:
    drop_outs = DropOuts(rate=1.0, rounds=(2,))
    assert [drop_outs.step_of("site-0", number) is not None for number in (1, 2, 3)] == [False, True, False]
