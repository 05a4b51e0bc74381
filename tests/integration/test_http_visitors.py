"""A whole coordinator whose HTTP port speaks mutual TLS: its page, its probes, and its audit log."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from mutual_visitors import Visitor, nobody, operator
from running_coordinator import RunningCoordinator, running_coordinator

from coordinator.audit.chain import AuditKind, AuditRecord
from coordinator.config import DataFolder
from coordinator.daemon.denials import BURST
from coordinator.store.sql.store import open_store
from edge_agent.identity.keystore import Identity
from ravan.errors import ErrorReason
from ravan.identity.certificates import Rank

MORE = 5


def http_port(coordinator: RunningCoordinator) -> int:
    told = json.loads(DataFolder(coordinator.config.server.data_dir).ports.read_text(encoding="utf-8"))
    return int(told["http_port"])


def agent(pki: Path, identity: Identity, out: Path) -> Visitor:
    out.mkdir()
    (out / "tls.crt").write_bytes(identity.certificate)
    (out / "tls.key").write_bytes(identity.tls_key)
    return Visitor(pki / "ca.crt", out / "tls.crt", out / "tls.key")


async def denials(coordinator: RunningCoordinator) -> list[AuditRecord]:
    store = open_store(DataFolder(coordinator.config.server.data_dir).database)
    try:
        log = await store.transact("read", lambda transaction: transaction.audit_records_after(0, 1000))
        return [record for record in log if record.kind == AuditKind.CALL_DENIED]
    finally:
        await store.close()


async def await_denials(coordinator: RunningCoordinator, count: int) -> list[AuditRecord]:
    """Return them when there are so many: they are recorded beside the requests."""
    end = time.monotonic() + 10
    while len(found := await denials(coordinator)) < count:
        assert time.monotonic() < end, found
    return found


async def test_operators_see_the_page_and_whoever_may_not_is_in_the_audit_log(tmp_path: Path) -> None:
    async with running_coordinator(tmp_path, http_tls="mutual") as coordinator:
        pki, port = DataFolder(coordinator.config.server.data_dir).pki, http_port(coordinator)
        mia = operator(pki, "mia", Rank.VIEWER, tmp_path / "mia")
        plant = agent(pki, await coordinator.enrol("plant-a"), tmp_path / "plant-a")

        status, page = await asyncio.to_thread(mia.ask, port, "/status")
        assert (status, "plant-a" in page) == (200, True)
        assert await asyncio.to_thread(nobody(pki).ask, port, "/readyz") == (200, "ready\n")
        assert "https://" in page

        def try_often() -> list[int]:
            return [plant.ask(port, "/metrics")[0] for _ in range(BURST + MORE)]

        assert await asyncio.to_thread(try_often) == [403] * (BURST + MORE)
        refused = coordinator.catalog.refusals.labels(ErrorReason.PERMISSION_DENIED)
        [sample] = [each for family in refused.collect() for each in family.samples if each.name.endswith("_total")]
        assert sample.value == BURST + MORE
        recorded = await await_denials(coordinator, BURST)
        assert {(each.actor.rpartition(":")[0], each.subject) for each in recorded} == {("site:plant-a", "GetMetrics")}
        assert len(recorded) == BURST
