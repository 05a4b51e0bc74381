"""A site that floods a real coordinator with calls and open streams does not keep the others from their rounds."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest
from flooder import flooding

from ravan.errors import ErrorReason
from ravan.manifest.phases import RoundOutcome
from simulation.course import tell_rounds
from simulation.job import Order
from simulation.scene import set_scene

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SITES = 4
ROUNDS = 2
LONGEST_S = 400.0


def refusals(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        lines = page.read().decode().splitlines()
    rows = (line.removeprefix("ravan_refusals_total{reason=").partition("} ") for line in lines)
    return {reason.strip('"'): float(count) for reason, found, count in rows if found and reason.startswith('"')}


async def test_rounds_and_heartbeats_of_others_go_on_while_one_site_floods(tmp_path: Path) -> None:
    settings = {"LIMITS_SITE_CALLS_PER_S": 20, "LIMITS_SITE_BURST": 40}
    order = Order(rounds=ROUNDS, minimum_sites=SITES)
    async with (
        set_scene(tmp_path, SITES, order, processes=1, settings=settings) as scene,
        flooding(scene.client, tmp_path / "flooder") as flooder,
    ):
        scene.fleet.start()
        job = await scene.until_completed(within_s=LONGEST_S)
        stories = tell_rounds(job, await scene.count(job), scene.fleet)
        everyone = frozenset(scene.fleet.sites)
        assert [(each.outcome, each.counted, each.faults) for each in stories] == [
            (RoundOutcome.COMMITTED, everyone, ())
        ] * ROUNDS
        # Nobody was lost, and nobody but the flooder was refused.
        assert [list(each.dropped) for each in job.rounds] == [[]] * ROUNDS
        beats, _ = await scene.fleet.report()
        assert len(beats) >= SITES * ROUNDS
        fleet_said = "".join(path.read_text() for path in (tmp_path / "sites").glob("*.log"))
        assert ErrorReason.TOO_MANY_CALLS not in fleet_said
        # It was a flood, it was refused by reason, and the log names who it was.
        refused = {call: flooder.answers[call, ErrorReason.TOO_MANY_CALLS] for call in ("Heartbeat", "Upload")}
        assert min(refused.values()) > 100, flooder.answers
        counted = refusals(scene.headquarters.settings().server.http_port)
        assert counted[ErrorReason.TOO_MANY_CALLS] >= sum(refused.values())
        assert "flooder has calls refused" in scene.headquarters.log.read_text()
