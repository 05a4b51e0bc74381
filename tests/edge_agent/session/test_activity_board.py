"""What the agent tells of its activity, and how often."""

from __future__ import annotations

import asyncio

import pytest

from edge_agent.session.activity import ActivityBoard
from ravan.manifest.phases import AgentActivity

FOR_EVER_S = 3600.0


async def told_again(board: ActivityBoard) -> asyncio.Task[None]:
    """Tell how it stands, then change it; what waits for something new has had many turns."""
    board.heartbeat()
    waiting = asyncio.create_task(board.changed(FOR_EVER_S))
    with board.doing(AgentActivity.MASKING, 3):
        for _ in range(50):
            await asyncio.sleep(0)
    return waiting


async def test_a_change_is_told_at_once_where_nothing_was_told_lately(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.session.activity.BEAT_EVERY_S", 0.0)
    waiting = await told_again(ActivityBoard(b"p", asyncio.get_running_loop()))
    async with asyncio.timeout(30):
        await waiting


async def test_changes_that_follow_each_other_closely_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.session.activity.BEAT_EVERY_S", FOR_EVER_S)
    waiting = await told_again(ActivityBoard(b"p", asyncio.get_running_loop()))
    assert not waiting.done()
    waiting.cancel()


async def test_a_heartbeat_tells_the_time_by_the_clock_of_the_pc() -> None:
    board = ActivityBoard(b"p", asyncio.get_running_loop(), wall_clock=lambda: 1234.5)
    assert board.heartbeat().site_time == 1234.5
