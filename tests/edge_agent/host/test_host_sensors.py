"""What the PC shows of the agent's own work."""

from __future__ import annotations

import subprocess
import sys

import psutil

from edge_agent.host.sensors import agent_seconds

BURN = "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\ntime.sleep(600)"


def test_a_worker_that_ends_and_one_that_starts_are_the_agents_own_work() -> None:
    own = psutil.Process()
    before = agent_seconds(own, None)
    for number in (1, 2):
        with subprocess.Popen([sys.executable, "-c", BURN], stdout=subprocess.PIPE) as worker:
            assert worker.stdout is not None
            worker.stdout.readline()
            # The kernel counts in hundredths.
            assert agent_seconds(own, worker.pid) - before > 0.45 * number
            worker.kill()
        assert agent_seconds(own, None) - before > 0.45 * number
        assert agent_seconds(own, worker.pid) - before > 0.45 * number
