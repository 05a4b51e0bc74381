"""The rate of a line, on a clock of the test's own."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravan.rpc.pace import UNPACED, Pace


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time passes at once whenever everybody waits."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        scheduled = [handle for handle in self._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]
        if not self._ready and scheduled:  # type: ignore[attr-defined]
            self._now = max(self._now, min(handle.when() for handle in scheduled))
        super()._run_once()  # type: ignore[misc]


def moved_at(pace: Pace, *movers: list[int], pause: float = 0.0) -> list[tuple[float, int]]:
    """Return when which bytes went."""
    log: list[tuple[float, int]] = []

    async def move(sizes: list[int]) -> None:
        for size in sizes:
            await pace.wait_for(size)
            log.append((asyncio.get_running_loop().time(), size))
            await asyncio.sleep(pause)

    async def all_of_them() -> None:
        await asyncio.gather(*map(move, movers))

    with asyncio.Runner(loop_factory=Clock) as runner:
        runner.run(all_of_them())
    return log


def test_the_first_bytes_go_at_once_and_the_next_when_theirs_are_over() -> None:
    assert moved_at(Pace(1), [2048, 1024, 512]) == [(0.0, 2048), (2.0, 1024), (3.0, 512)]


def test_two_who_share_it_get_one_rate() -> None:
    times = [at for at, _ in moved_at(Pace(1), [1024] * 3, [1024] * 3)]
    assert times == pytest.approx([0, 1, 2, 3, 4, 5])


def test_time_in_which_nothing_was_moved_is_not_saved_up() -> None:
    assert [at for at, _ in moved_at(Pace(1), [1024] * 3, pause=10.0)] == [0.0, 10.0, 20.0]


def test_without_a_rate_nobody_waits() -> None:
    assert [at for at, _ in moved_at(UNPACED, [1 << 30] * 5)] == [0.0] * 5
    assert not UNPACED.limited


@given(
    st.lists(st.lists(st.integers(1, 5000), max_size=6), min_size=1, max_size=3),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.3, 2.0]),
)
def test_no_stretch_of_time_carries_more_than_its_rate_and_one_piece(
    movers: list[list[int]], kib_per_s: int, pause: float
) -> None:
    log = moved_at(Pace(kib_per_s), *movers, pause=pause)
    for first, last in itertools.combinations(range(len(log)), 2):
        # What goes at the end of a stretch has its time after it.
        carried = sum(size for _, size in log[first:last])
        assert carried <= (log[last][0] - log[first][0]) * kib_per_s * 1024 * (1 + 1e-9) + 1e-3
