"""The limits of `coordinator.toml` hold at a real coordinator, each with a typed refusal that its metrics count."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest
from grpc import aio
from running_coordinator import RunningCoordinator, agent_channel, running_coordinator

from ravan.errors import ErrorReason, RavanError, StateError, TransferError
from ravan.ids import Digest
from ravan.rpc.channel import open_channel
from ravan.rpc.status import error_from_rpc
from ravan.rpc.tls import enrolling_client
from ravan.wire.v1 import enrolment_service_pb2, site_service_pb2
from ravan.wire.v1.enrolment_service_pb2_grpc import EnrolmentServiceStub

KIB, MB = 1 << 10, 1 << 20


def explained(error: aio.AioRpcError) -> RavanError:
    return error_from_rpc(error, address="hq", authority="the test's CA")


def count(hq: RunningCoordinator, reason: ErrorReason) -> float:
    found = hq.catalog.registry.get_sample_value("ravan_refusals_total", {"reason": reason})
    assert found is not None
    return found


async def test_each_port_has_its_own_longest_message(tmp_path: Path) -> None:
    async with running_coordinator(tmp_path, enrolment_message_kib=16, site_message_kib=1280) as hq:
        identity = await hq.enrol("plant-a")
        credentials = enrolling_client(ca_certificate=identity.ca_certificate)
        channel = open_channel("localhost", identity.address.enrolment_port, credentials)
        stub: Any = EnrolmentServiceStub(channel)
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.Enrol(enrolment_service_pb2.EnrolRequest(tls_csr=bytes(17 * KIB)), timeout=20)
        error = explained(caught.value)
        assert (error.reason, isinstance(error, TransferError)) == (ErrorReason.TOO_LARGE, True)
        assert f"at most {16 * KIB} are accepted" in str(error)
        await channel.close()
        async with agent_channel(identity) as site:
            long = site_service_pb2.HeartbeatRequest(process_id=bytes(1281 * KIB))
            with pytest.raises(aio.AioRpcError) as caught:
                await site.Heartbeat(long, timeout=20)
            assert explained(caught.value).reason is ErrorReason.TOO_LARGE
            # What would be too long on the other port is only wrong here.
            with pytest.raises(aio.AioRpcError) as caught:
                await site.Heartbeat(site_service_pb2.HeartbeatRequest(process_id=bytes(17 * KIB)), timeout=20)
            assert explained(caught.value).reason is ErrorReason.MALFORMED
        assert count(hq, ErrorReason.TOO_LARGE) == 2


async def test_a_site_is_held_to_its_rate_and_an_operator_is_not(tmp_path: Path) -> None:
    async with running_coordinator(tmp_path, site_calls_per_s=0.001, site_burst=8) as hq:
        async with agent_channel(await hq.enrol("plant-a")) as site:
            beat = site_service_pb2.HeartbeatRequest(process_id=bytes(16))
            for _ in range(8):
                await site.Heartbeat(beat, timeout=20)
            with pytest.raises(aio.AioRpcError) as caught:
                await site.Heartbeat(beat, timeout=20)
        error = explained(caught.value)
        assert (error.reason, isinstance(error, StateError)) == (ErrorReason.TOO_MANY_CALLS, True)
        assert "limits.site_calls_per_s" in error.next_step
        for _ in range(20):
            await hq.operator.list_sites()
        async with agent_channel(await hq.enrol("plant-b")) as other:
            await other.Heartbeat(beat, timeout=20)
        assert count(hq, ErrorReason.TOO_MANY_CALLS) == 1


async def test_what_exceeds_the_quota_of_the_data_folder_is_refused_and_nothing_of_it_stays(tmp_path: Path) -> None:
    async with running_coordinator(tmp_path, data_mb=2, disk_reserve_mb=0) as hq:
        model = tmp_path / "model"
        await asyncio.to_thread(model.mkdir)
        for name, size in (("config.json", 2), ("model.safetensors", 3 * MB)):
            await asyncio.to_thread((model / name).write_bytes, bytes(size))
        with pytest.raises(RavanError, match="MB of 2 MB") as caught:
            await hq.operator.add_model(model, "large")
        assert caught.value.reason is ErrorReason.DISK_FULL
        assert "limits.data_mb" in caught.value.next_step
        assert count(hq, ErrorReason.DISK_FULL) == 1
        blobs = hq.config.server.data_dir / "blobs"
        stored = await asyncio.to_thread(lambda: [p.stat().st_size for p in blobs.rglob("*") if p.is_file()])
        assert all(size < 3 * MB for size in stored)


async def test_room_is_kept_free_for_the_records(tmp_path: Path) -> None:
    """With all of the disk reserved nothing is taken in, and records are still written."""
    async with running_coordinator(tmp_path, disk_reserve_mb=1 << 40) as hq:
        file = tmp_path / "config.json"
        await asyncio.to_thread(file.write_bytes, b"{}")
        with pytest.raises(RavanError, match="stay free") as caught:
            await hq.operator._upload(file, Digest(hashlib.sha256(b"{}").digest()), None)
        assert caught.value.reason is ErrorReason.DISK_FULL
        await hq.enrol("plant-a")
        assert [each.name for each in await hq.operator.list_sites()] == ["plant-a"]
