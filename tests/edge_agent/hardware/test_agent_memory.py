"""What counts as the agent's memory: its own process, its worker, and what came with that."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.hardware.memory import bytes_beside, private_bytes_of

MIB = 1 << 20

HOLDER = """
import sys
held = bytearray(b"x" * (int(sys.argv[1]) << 20))
print(flush=True)
sys.stdin.read()
"""

AGENT = f"""
import subprocess, sys
for mib in (60, 30):
    command = [sys.executable, "-c", {HOLDER!r}, str(mib)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    child.stdout.readline()
    print(child.pid, flush=True)
sys.stdin.read()
"""

pytestmark = pytest.mark.skipif(
    not list(Path("/proc/self/task").glob("*/children")), reason="this system's kernel lists no children"
)


@pytest.fixture
def family() -> Iterator[tuple[int, int, int]]:
    """An agent, and what it has started: a process that holds 60 MiB, and one that holds 30."""
    with subprocess.Popen(
        [sys.executable, "-c", AGENT], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as agent:
        assert agent.stdout is not None
        yield agent.pid, int(agent.stdout.readline()), int(agent.stdout.readline())
        # They end with the pipe that all of them read.


def test_what_the_agent_has_started_beside_its_worker_counts(family: tuple[int, int, int]) -> None:
    agent, large, small = family
    own = private_bytes_of(agent)
    assert 30 * MIB < bytes_beside(large, agent) - own < 60 * MIB
    assert 60 * MIB < bytes_beside(small, agent) - own < 90 * MIB


def test_a_process_that_has_ended_holds_nothing() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert bytes_beside(ended.pid, ended.pid) == 0
