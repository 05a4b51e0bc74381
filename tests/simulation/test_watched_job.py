"""A job that runs on a real fleet, watched over the wire: what is heard of it, and what the terminal makes of that."""

from __future__ import annotations

import io
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

from rich.console import Console

from coordinator.cli.live_view import render_watched
from simulation.job import Order
from simulation.scene import set_scene


async def test_whoever_watches_a_job_hears_what_happened_beside_rounds(tmp_path: Path) -> None:
    async with set_scene(tmp_path, 3, Order(rounds=1, minimum_sites=3)) as scene:
        scene.fleet.start()
        stream: Any = scene.client.watch_job(scene.job_id)
        async with aclosing(stream) as views:
            shown = [view async for view in views]
        assert [deed.kind for deed in shown[0].deeds][-1] == "started"
        assert {"enrolled", "model_added", "job_submitted"} <= {deed.kind for deed in shown[0].deeds}
        assert shown[-1].deeds[0].kind == "job_ended"
        assert scene.job_id in {deed.subject for deed in shown[-1].deeds}
        assert shown[0].now <= shown[-1].now <= time.time()
        terminal = io.StringIO()
        Console(file=terminal, width=120).print(render_watched(shown[-1], shown[-1].now))
        assert "of each head in round 1, of 3 in all: Every head was trained by at least half" in terminal.getvalue()
