"""A thousand agents that lose their coordinator together do not fall on it together when it is back."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.session.reconnect import FIRST_S, LONGEST_S, Backoff

AGENTS = 1000
SPREAD_S = 10.0
"""What the coordinator tells a thousand sites."""
EVENLY = AGENTS / SPREAD_S
"""Returns a second if all of them came evenly over that time."""


@dataclass(frozen=True)
class Story:
    returns: Counter[int]
    """By second since the coordinator is back."""
    attempts: Counter[int]
    """By second since it went away."""


def lose_all(down_s: float, spread_s: float = SPREAD_S) -> Story:
    draw = random.Random(1)  # noqa: S311 - the same pauses in each run
    returns, attempts = Counter[int](), Counter[int]()
    for _ in range(AGENTS):
        backoff, now = Backoff(uniform=draw.uniform), 0.0
        backoff.spread_s = spread_s
        while now == 0.0 or now < down_s:
            now += backoff.next_pause_s()
            attempts[int(now)] += 1
        returns[int(now - down_s)] += 1
    return Story(returns, attempts)


@pytest.mark.parametrize("down_s", [0.0, 0.3, 1.0, 3.0, 10.0, 60.0, 900.0])
def test_no_second_sees_many_more_than_an_even_return(down_s: float) -> None:
    story = lose_all(down_s)
    assert max(story.returns.values()) <= 2 * EVENLY
    assert max(story.attempts.values()) <= 3 * EVENLY
    assert sum(story.returns.values()) == AGENTS
    assert max(story.returns) <= LONGEST_S


def test_without_the_spread_they_come_together() -> None:
    assert lose_all(0.0, spread_s=0.0).returns == {0: AGENTS}


@given(spread_s=st.floats(0, 120), failures=st.integers(0, 40), at=st.floats(0, 1))
def test_pauses_lie_between_half_a_bound_and_the_wider_range(spread_s: float, failures: int, at: float) -> None:
    backoff = Backoff(uniform=lambda low, high: low + at * (high - low))
    backoff.spread_s = spread_s
    for _ in range(failures):
        backoff.next_pause_s()
    bound = min(LONGEST_S, FIRST_S * 2**failures)
    assert bound / 2 <= backoff.next_pause_s() <= max(bound, spread_s)
