"""Operators and sites at a whole coordinator, over real mutual TLS."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from faulty_line import FaultyLine
from grpc import aio
from running_coordinator import RunningCoordinator, agent_channel, running_coordinator
from structlog.testing import capture_logs

from coordinator.operator_client import OperatorClient
from edge_agent.identity.enrol import enrol
from ravan.codec import enums
from ravan.errors import ErrorReason, IdentityError, ModelError, ProtocolError, RavanError, StateError, TransferError
from ravan.manifest.phases import DropReason, SiteState
from ravan.rpc.status import error_from_rpc
from ravan.wire.v1 import hardware_pb2
from ravan.wire.v1 import operator_service_pb2 as operator_wire
from ravan.wire.v1 import site_service_pb2 as wire

FIRST, SECOND = b"a" * 16, b"b" * 16
PROTOCOL = enums.DROP_REASON.to_wire(DropReason.PROTOCOL)
CALL_S = 10

MACHINE = hardware_pb2.HardwareProfile(
    cores=2,
    ram_total_bytes=8 << 30,
    ram_limit_bytes=1 << 30,
    ram_limit_source=hardware_pb2.LIMIT_SOURCE_CONFIG,
    disk_free_bytes=1 << 34,
    aes_instructions=True,
    cpu_capability="AVX2",
    agent_version="0.1.0",
)


@pytest.fixture
async def hq(tmp_path: Path) -> AsyncIterator[RunningCoordinator]:
    async with running_coordinator(tmp_path) as running:
        yield running


def reason_of(error: aio.AioRpcError) -> ErrorReason:
    return error_from_rpc(error, address="hq", authority="ca").reason


async def state_of(hq: RunningCoordinator, site: str) -> SiteState:
    [view] = await hq.operator.list_sites(site)
    return enums.SITE_STATE.from_wire(view.state)


async def test_site_goes_from_invited_to_online_to_offline(hq: RunningCoordinator) -> None:
    await hq.operator.create_token("plant-1")
    assert await state_of(hq, "plant-1") is SiteState.INVITED
    identity = await hq.enrol("plant-1")
    assert await state_of(hq, "plant-1") is SiteState.OFFLINE
    async with agent_channel(identity) as stub:
        stream: Any = stub.Watch(wire.WatchRequest(process_id=FIRST))
        greeting = await stream.read()
        assert greeting.greeting.heartbeat_interval_s == 7
        assert greeting.sequence == 0
        beat = wire.HeartbeatRequest(process_id=FIRST, activity=wire.AGENT_ACTIVITY_TRAINING, done=3, total=40)
        await stub.Heartbeat(beat, timeout=CALL_S)
        await stub.ReportHardware(wire.ReportHardwareRequest(profile=MACHINE), timeout=CALL_S)
        [view] = await hq.operator.list_sites("plant-1")
        assert enums.SITE_STATE.from_wire(view.state) is SiteState.ONLINE
        assert view.hardware == MACHINE
        assert (view.heartbeat.done, view.heartbeat.total) == (3, 40)
        assert view.last_seen > 0
        assert view.certificate_expires_at > view.last_seen
    assert hq.catalog.registry.get_sample_value("ravan_heartbeats_total") == 1


async def test_a_site_with_too_old_an_agent_is_told_and_shown_as_held_back(hq: RunningCoordinator) -> None:
    identity = await hq.enrol("plant-1")
    async with agent_channel(identity) as stub:
        stream: Any = stub.Watch(wire.WatchRequest(process_id=FIRST))
        assert (await stream.read()).greeting.minimum_agent_version == "0.0.9"
        shown = []
        for version in ("0.0.8", "", "0.1.0"):
            machine = hardware_pb2.HardwareProfile()
            machine.CopyFrom(MACHINE)
            machine.agent_version = version
            await stub.ReportHardware(wire.ReportHardwareRequest(profile=machine), timeout=CALL_S)
            [view] = await hq.operator.list_sites("plant-1")
            shown.append((view.hold_reason, view.held_back))
    assert shown == [
        (operator_wire.HOLD_REASON_OUTDATED, "held back: its agent is 0.0.8, older than 0.0.9"),
        (
            operator_wire.HOLD_REASON_UNKNOWN_VERSION,
            "held back: its agent tells no version, and 0.0.9 is the oldest that takes part",
        ),
        (operator_wire.HOLD_REASON_UNSPECIFIED, ""),
    ]


async def test_second_process_of_a_site_gets_a_sentence(hq: RunningCoordinator) -> None:
    identity = await hq.enrol("plant-1")
    async with agent_channel(identity) as stub:
        first: Any = stub.Watch(wire.WatchRequest(process_id=FIRST))
        await first.read()
        second: Any = stub.Watch(wire.WatchRequest(process_id=SECOND))
        with pytest.raises(aio.AioRpcError) as caught:
            await second.read()
        assert reason_of(caught.value) is ErrorReason.IDENTITY_IN_USE
        assert await state_of(hq, "plant-1") is SiteState.ONLINE


async def test_an_endorsement_is_kept_with_the_site_until_its_identity_changes(hq: RunningCoordinator) -> None:
    await hq.enrol("plant-1")
    [before] = await hq.operator.list_sites("plant-1")
    for endorsement in (b"\x01" * 64, b"\x02" * 64):
        await hq.operator.endorse_site("plant-1", endorsement)
    [after] = await hq.operator.list_sites("plant-1")
    assert (before.endorsed, after.endorsed) == (False, True)
    shutil.rmtree(hq.folder / "agent-plant-1")
    await hq.enrol("plant-1")
    [again] = await hq.operator.list_sites("plant-1")
    assert not again.endorsed
    with pytest.raises(StateError) as unknown:
        await hq.operator.endorse_site("nobody", bytes(64))
    assert unknown.value.reason is ErrorReason.NOT_FOUND
    with pytest.raises(ProtocolError, match="63 bytes instead of 64"):
        await hq.operator.endorse_site("plant-1", bytes(63))


async def test_revoked_site_loses_its_stream_and_every_call(hq: RunningCoordinator) -> None:
    identity = await hq.enrol("plant-1")
    async with agent_channel(identity) as stub:
        stream: Any = stub.Watch(wire.WatchRequest(process_id=FIRST))
        await stream.read()
        await hq.operator.revoke_site("plant-1")
        with pytest.raises(aio.AioRpcError) as ended:
            await stream.read()
        with pytest.raises(aio.AioRpcError) as refused:
            await stub.Heartbeat(wire.HeartbeatRequest(process_id=FIRST), timeout=CALL_S)
    assert reason_of(ended.value) is ErrorReason.IDENTITY_REVOKED
    assert reason_of(refused.value) is ErrorReason.IDENTITY_REVOKED
    assert await state_of(hq, "plant-1") is SiteState.REVOKED
    with pytest.raises(StateError):
        await hq.operator.revoke_site("nobody")


@pytest.mark.parametrize(
    ("method", "request_message"),
    [
        ("Heartbeat", wire.HeartbeatRequest(process_id=b"short")),
        ("ReportHardware", wire.ReportHardwareRequest()),
        ("ReportHardware", wire.ReportHardwareRequest(profile=hardware_pb2.HardwareProfile())),
        ("ReportJobProfile", wire.ReportJobProfileRequest(job_id="x")),
        ("SubmitSecureAggregation", wire.SubmitSecureAggregationRequest()),
        ("LeaveRound", wire.LeaveRoundRequest(job_id="x", round=1)),
        ("LeaveRound", wire.LeaveRoundRequest(job_id="x", round=1, reason=PROTOCOL, suspect=1 << 16)),
    ],
)
async def test_malformed_calls_of_a_site(hq: RunningCoordinator, method: str, request_message: Any) -> None:
    identity = await hq.enrol("plant-1")
    async with agent_channel(identity) as stub:
        with pytest.raises(aio.AioRpcError) as caught:
            await getattr(stub, method)(request_message, timeout=CALL_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(caught.value) is ErrorReason.MALFORMED


async def test_a_site_may_refuse_what_it_cannot_read_without_naming_a_job(hq: RunningCoordinator) -> None:
    identity = await hq.enrol("plant-1")
    with capture_logs() as logs:
        async with agent_channel(identity) as stub:
            await stub.LeaveRound(wire.LeaveRoundRequest(reason=PROTOCOL), timeout=CALL_S)
    (said,) = [each for each in logs if each["event"] == "site refuses an instruction"]
    assert (said["site"], said["reason"]) == ("plant-1", "protocol")


def write_model(folder: Path, numbers: int) -> Path:
    """Write a model of one tensor: safetensors is a length, a JSON header and the numbers."""
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    tensor = {"dtype": "F32", "shape": [numbers], "data_offsets": [0, 4 * numbers]}
    header = json.dumps({"weight": tensor}).encode()
    body = struct.pack("<Q", len(header)) + header + b"\x01" * (4 * numbers)
    (folder / "model.safetensors").write_bytes(body)
    return folder


async def test_model_of_several_chunks_comes_back_as_it_was(hq: RunningCoordinator, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", 700_000)
    seen: list[tuple[str, int, int]] = []
    model = await hq.operator.add_model(folder, "tiny", lambda *step: seen.append(step))
    weights = (folder / "model.safetensors").read_bytes()
    assert model.parameters == 700_000
    assert ("model.safetensors", len(weights), len(weights)) in seen
    assert [each.name for each in await hq.operator.list_models()] == ["tiny"]
    fetched = tmp_path / "fetched"
    await hq.operator.download_blob(hashlib.sha256(weights).digest(), fetched)
    assert fetched.read_bytes() == weights


async def test_unsound_model_is_refused(hq: RunningCoordinator, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", 10)
    (folder / "config.json").write_text('{"model_type": "bert", "auto_map": {"AutoModel": "evil.py"}}')
    with pytest.raises(ModelError) as caught:
        await hq.operator.add_model(folder, "evil")
    assert caught.value.reason is ErrorReason.MODEL_INVALID
    assert list(await hq.operator.list_models()) == []


async def test_absent_blob_and_absent_jobs(hq: RunningCoordinator, tmp_path: Path) -> None:
    with pytest.raises(TransferError) as absent:
        await hq.operator.download_blob(b"0" * 32, tmp_path / "nothing")
    assert absent.value.reason is ErrorReason.BLOB_MISSING
    with pytest.raises(RavanError) as unknown:
        await anext(hq.operator.watch_job("nothing"))
    assert unknown.value.reason is ErrorReason.NOT_FOUND
    assert list(await hq.operator.list_jobs()) == []
    assert hq.catalog.registry.get_sample_value("ravan_refusals_total", {"reason": "NOT_FOUND"}) == 1


async def test_operator_of_another_ca_is_refused_in_the_handshake(hq: RunningCoordinator, tmp_path: Path) -> None:
    async with running_coordinator(tmp_path / "other") as other:
        foreign = other.operator
        foreign._endpoint = type(foreign._endpoint)(
            host="127.0.0.1",
            port=hq.operator._endpoint.port,
            identity=foreign._endpoint.identity,
        )
        async with foreign:
            with pytest.raises(IdentityError) as caught:
                await foreign.list_sites()
    assert caught.value.reason is ErrorReason.IDENTITY_MISMATCH


async def test_stopping_ends_watch_streams_in_order(tmp_path: Path) -> None:
    async with running_coordinator(tmp_path) as hq:
        identity = await hq.enrol("plant-1")
        async with agent_channel(identity) as stub:
            stream: Any = stub.Watch(wire.WatchRequest(process_id=FIRST))
            await stream.read()
            await hq.daemon.stop()
            assert await stream.read() is aio.EOF


async def test_a_repeated_call_for_a_token_gets_the_first_join_string(hq: RunningCoordinator) -> None:
    request = operator_wire.CreateTokenRequest(site="plant-1", ttl_s=600, request_id="r1")
    first, again = [await hq.operator._stub.CreateToken(request, timeout=CALL_S) for _ in range(2)]
    assert first == again
    for other in (
        operator_wire.CreateTokenRequest(site="plant-1", ttl_s=600, request_id="r2"),
        operator_wire.CreateTokenRequest(site="plant-1", ttl_s=600),
    ):
        assert (await hq.operator._stub.CreateToken(other, timeout=CALL_S)).join_string != first.join_string
    with pytest.raises(aio.AioRpcError) as caught:
        await hq.operator._stub.CreateToken(
            operator_wire.CreateTokenRequest(site="plant-2", request_id="r1"), timeout=CALL_S
        )
    assert reason_of(caught.value) is ErrorReason.ALREADY_EXISTS


async def test_a_late_repetition_of_a_revocation_leaves_the_site_that_enrolled_since(hq: RunningCoordinator) -> None:
    await hq.enrol("plant-1")
    request = operator_wire.RevokeSiteRequest(name="plant-1", request_id="r1")
    await hq.operator._stub.RevokeSite(request, timeout=CALL_S)
    token = await hq.operator.create_token("plant-1")
    await enrol(token.join_string, hq.folder / "agent-anew")
    await hq.operator._stub.RevokeSite(request, timeout=CALL_S)
    assert await state_of(hq, "plant-1") is SiteState.OFFLINE
    await hq.operator.revoke_site("plant-1")
    assert await state_of(hq, "plant-1") is SiteState.REVOKED


async def test_a_change_whose_answer_is_lost_is_asked_for_again_and_done_once(hq: RunningCoordinator) -> None:
    near = hq.operator._endpoint
    line = FaultyLine(near.port)
    async with line.serve() as port, OperatorClient(replace(near, port=port)) as operator:
        await operator.list_models()
        line.cut_answer(400)  # a join string is longer, and what HTTP/2 says between calls is shorter
        answer = await operator.create_token("plant-1")
        assert line.cuts == 1
    tokens = await hq.daemon._store.transact("read", lambda transaction: transaction.list_open_tokens())
    assert [token.site for token in tokens] == ["plant-1"]
    await enrol(answer.join_string, hq.folder / "agent-plant-1")
