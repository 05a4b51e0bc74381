"""The coordinator as the agent sees it: every call of the site service, with errors as sentences."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from grpc import StatusCode, aio

from edge_agent.identity.keystore import Identity
from edge_agent.session.effects import Leave
from edge_agent.session.reconnect import Backoff
from edge_agent.session.transfer import Downloads, Uploads
from ravan.codec import enums
from ravan.codec.instructions import watch_from_wire
from ravan.codec.profiles import hardware_to_wire, heartbeat_to_wire, job_profile_to_wire
from ravan.codec.secagg_messages import Submission, submission_to_wire
from ravan.errors import ProtocolError, RavanError
from ravan.identity.certificates import describe_authority
from ravan.ids import JobId
from ravan.manifest.instructions import Greeting, Numbered
from ravan.manifest.liveness import Heartbeat
from ravan.manifest.profile import HardwareProfile, JobProfile
from ravan.rpc.addresses import target_of
from ravan.rpc.blob_stream import PASSING, reason_of
from ravan.rpc.channel import open_channel
from ravan.rpc.handshake import look_closer
from ravan.rpc.status import error_from_rpc
from ravan.rpc.tls import enrolled_client
from ravan.wire.v1 import site_service_pb2 as wire
from ravan.wire.v1 import site_service_pb2_grpc, transfer_service_pb2_grpc

CALL_DEADLINE_S: Final = 20.0

_LINE_TROUBLE: Final = frozenset({StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED, StatusCode.CANCELLED})

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An instruction in the stream that has not the form of one; to ask for it again would not help."""

    sequence: int
    error: ProtocolError


class Coordinator:
    """One channel to the coordinator; the agent dials, nothing dials the agent."""

    def __init__(self, identity: Identity) -> None:
        """Open the channel; it connects at its first call."""
        address = identity.address
        self._identity = identity
        self.address = target_of(address.host, address.site_port)
        self._authority = describe_authority(identity.ca_certificate)
        credentials = enrolled_client(
            key=identity.tls_key, certificate=identity.certificate, ca_certificate=identity.ca_certificate
        )
        self._channel = open_channel(address.host, address.site_port, credentials)
        self._site: site_service_pb2_grpc.SiteServiceAsyncStub = site_service_pb2_grpc.SiteServiceStub(self._channel)
        self._transfer: transfer_service_pb2_grpc.TransferServiceAsyncStub = (
            transfer_service_pb2_grpc.TransferServiceStub(self._channel)
        )

    async def close(self) -> None:
        """Hang up."""
        await self._channel.close()

    def uploads(self) -> Uploads:
        """Return the sender of masked updates."""
        return Uploads(self._transfer, self.explain)

    def downloads(self, cache_dir: Path) -> Downloads:
        """Return the cache of content by hash."""
        return Downloads(self._transfer, cache_dir, self.explain)

    def explain(self, error: aio.AioRpcError) -> RavanError:
        """Turn a failed call into an error with a sentence."""
        return error_from_rpc(error, address=self.address, authority=self._authority)

    async def watch(
        self, process_id: bytes, after_sequence: int
    ) -> AsyncGenerator[Greeting | Numbered | Unreadable, None]:
        """Yield the greeting, then instructions, until the stream ends; raise RavanError when it breaks."""
        call = self._site.Watch(wire.WatchRequest(process_id=process_id, after_sequence=after_sequence))
        try:
            async for message in call:
                yield _read(message)
        except aio.AioRpcError as error:
            raise await self._look_closer(error) from error
        finally:
            call.cancel()

    async def heartbeat(self, beat: Heartbeat) -> None:
        """Tell that the agent lives, once; raise RavanError when that fails."""
        try:
            await self._site.Heartbeat(heartbeat_to_wire(beat), timeout=CALL_DEADLINE_S)
        except aio.AioRpcError as error:
            raise self.explain(error) from error

    async def report_hardware(self, profile: HardwareProfile) -> None:
        """Report the machine, however long the line takes."""
        request = wire.ReportHardwareRequest(profile=hardware_to_wire(profile))
        await self._insist(lambda: self._site.ReportHardware(request, timeout=CALL_DEADLINE_S))

    async def report_job(self, job_id: JobId, profile: JobProfile) -> None:
        """Report a job's measured cost, however long the line takes."""
        request = wire.ReportJobProfileRequest(job_id=job_id, profile=job_profile_to_wire(profile))
        await self._insist(lambda: self._site.ReportJobProfile(request, timeout=CALL_DEADLINE_S))

    async def submit(self, submission: Submission) -> None:
        """Send one message of secure aggregation, however long the line takes."""
        request = wire.SubmitSecureAggregationRequest(message=submission_to_wire(submission))
        await self._insist(lambda: self._site.SubmitSecureAggregation(request, timeout=CALL_DEADLINE_S))

    async def leave(self, leave: Leave) -> None:
        """Leave a round, or with round 0 a job's preparation, however long the line takes."""
        request = wire.LeaveRoundRequest(
            job_id=leave.job_id or "",
            round=leave.round_number,
            reason=enums.DROP_REASON.to_wire(leave.reason),
            suspect=leave.suspect,
        )
        await self._insist(lambda: self._site.LeaveRound(request, timeout=CALL_DEADLINE_S))

    async def _look_closer(self, error: aio.AioRpcError) -> RavanError:
        address, authority = self._identity.address, self._identity.ca_certificate
        return await look_closer(self.explain(error), address.host, address.site_port, authority)

    async def _insist(self, call: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Repeat a call while only the line is at fault, or what will pass; raise RavanError for any other refusal."""
        backoff = Backoff()
        while True:
            try:
                return await call()
            except aio.AioRpcError as error:
                if not _may_pass(error):
                    raise self.explain(error) from error
            await asyncio.sleep(backoff.next_pause_s())


def _may_pass(error: aio.AioRpcError) -> bool:
    reason = reason_of(error)
    return error.code() in _LINE_TROUBLE if reason is None else reason in PASSING


def _read(message: wire.WatchResponse) -> Greeting | Numbered | Unreadable:
    try:
        return watch_from_wire(message)
    except ProtocolError as error:
        return Unreadable(message.sequence, error)
