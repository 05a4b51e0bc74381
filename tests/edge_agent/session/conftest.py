"""The scene of the session's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from agent_world import World
from scripted_headquarters import enrol_by_hand, headquarters
from tiny_jobs import tiny_job, write_rows


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Headquarters that listen, and an enrolled agent with rows, not started."""
    rows = write_rows(tmp_path / "rows.csv")
    extra = f'\n[data.orders]\npath = "{rows}"\nformat = "csv"\ntext = "text"\nlabel = "label"\n'
    async with headquarters(tmp_path / "hq") as hq:
        config_path = enrol_by_hand(hq.pki, hq.port, tmp_path / "site", extra)
        yield World(tmp_path, hq, tiny_job(tmp_path, steps=4), config_path)
