"""An agent whose clock differs from the coordinator's says so and goes on."""

from __future__ import annotations

import pytest
import structlog
from agent_world import World
from scripted_headquarters import Attached
from structlog.testing import LogCapture

from edge_agent.session import client
from ravan.manifest.profile import HardwareProfile


async def test_hours_are_told_at_each_connection_and_keep_nobody_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.hq.clock_ahead_s = 3 * 3600
    # A logger of its own: the module's keeps whatever settings the process had when it was first used.
    capture = LogCapture()
    monkeypatch.setattr(client, "log", structlog.wrap_logger(None, [capture], wrapper_class=structlog.BoundLogger))
    async with world.agent():
        await world.hq.hear(Attached)
        assert await world.hq.hear(HardwareProfile)
    (warning,) = [entry for entry in capture.entries if "clock" in entry["event"]]
    assert warning["log_level"] == "warning"
    assert "this PC is 3 h 0 min behind" in warning["event"]
    assert "time synchronisation" in warning["next_step"]
