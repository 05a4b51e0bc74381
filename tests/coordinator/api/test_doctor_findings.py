"""`ravan-agent doctor` at a whole coordinator: what it says of the connection holds."""

from __future__ import annotations

from pathlib import Path

from running_coordinator import RunningCoordinator, running_coordinator

from edge_agent.config import AgentFile
from edge_agent.doctor import examine
from edge_agent.finding import Finding


def configured(hq: RunningCoordinator, site: str) -> AgentFile:
    identity, cache = hq.folder / f"agent-{site}", hq.folder / "cache"
    return AgentFile.model_validate({"agent": {"identity_dir": identity, "cache_dir": cache, "ram_limit_mb": 700}})


async def said_of_the_coordinator(config: AgentFile) -> Finding:
    return next(finding for finding in await examine(config) if finding.name == "coordinator")


async def test_a_good_site_s_report_arrives(tmp_path: Path) -> None:
    async with running_coordinator(tmp_path) as hq:
        await hq.enrol("plant-1")

        found = await said_of_the_coordinator(configured(hq, "plant-1"))

        [view] = await hq.operator.list_sites("plant-1")
    assert found.good
    assert view.hardware.ram_limit_bytes == 700 << 20


async def test_a_revoked_site_is_told_so(tmp_path: Path) -> None:
    async with running_coordinator(tmp_path) as hq:
        await hq.enrol("plant-1")
        await hq.operator.revoke_site("plant-1")

        found = await said_of_the_coordinator(configured(hq, "plant-1"))

    assert not found.good
    assert "revoked" in found.sentence
    assert "token create --site plant-1" in found.remedy


async def test_a_coordinator_that_is_gone_is_named(tmp_path: Path) -> None:
    async with running_coordinator(tmp_path) as hq:
        identity = await hq.enrol("plant-1")
        config = configured(hq, "plant-1")

    found = await said_of_the_coordinator(config)

    assert not found.good
    assert str(identity.address.site_port) in found.sentence


async def test_each_address_and_the_clock_are_looked_at(tmp_path: Path) -> None:
    async with running_coordinator(tmp_path) as hq:
        await hq.enrol("plant-1")
        config = configured(hq, "plant-1")
        agent = config.agent.model_copy(update={"coordinators": ("localhost:1:1",)})

        findings = await examine(config.model_copy(update={"agent": agent}))

    own, other = (each for each in findings if each.name == "coordinator")
    assert (own.good, other.good) == (True, False)
    assert "localhost:1" in other.sentence
    clock = next(each for each in findings if each.name == "clock")
    assert clock.good
    assert "as the coordinator's" in clock.sentence
