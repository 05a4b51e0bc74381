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
