"""The coordinator as the agent sees it: every call of the site service, with errors as sentences."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from grpc import StatusCode, aio

from edge_agent.identity.keystore import Identity
from edge_agent.identity.reach import STRAIGHT, Reach, is_elsewhere
from edge_agent.session.diagnosis import diagnose
from edge_agent.session.effects import Leave
from edge_agent.session.line import Line
from edge_agent.session.reconnect import Backoff
from edge_agent.session.rota import Rota
from edge_agent.session.stream import Unreadable, read_message, until_moved
from edge_agent.session.transfer import CurrentTransfer, Downloads, Uploads, UploadStub
from edge_agent.storage.blob_cache import BlobCache
from ravan.codec import enums
from ravan.codec.grants import grant_from_wire
from ravan.codec.profiles import hardware_to_wire, heartbeat_to_wire, job_profile_to_wire
from ravan.codec.secagg_messages import Submission, submission_to_wire
from ravan.errors import RavanError
from ravan.identity.certificates import describe_authority
from ravan.identity.renewal import CertificateGrant
from ravan.ids import JobId
from ravan.manifest.instructions import Greeting, Numbered
from ravan.manifest.liveness import Heartbeat
from ravan.manifest.profile import HardwareProfile, JobProfile
from ravan.rpc.blob_stream import ENDLESS, PASSING, Patience, reason_of
from ravan.rpc.pace import Pace
from ravan.rpc.proxy import name_peer
from ravan.rpc.status import error_from_rpc
from ravan.wire.v1 import site_service_pb2 as wire

CALL_DEADLINE_S: Final = 20.0

_LINE_TROUBLE: Final = frozenset({StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED, StatusCode.CANCELLED})

if TYPE_CHECKING:
    # the generated code knows one class for both kinds of channel; only its types tell them apart
    from ravan.wire.v1.site_service_pb2_grpc import SiteServiceAsyncStub as Site


class Coordinator:
    """The coordinator over the newest channel; the agent dials, nothing dials the agent."""

    def __init__(self, identity: Identity, reach: Reach = STRAIGHT, memory: Path | None = None) -> None:
        """Open the channel; it connects at its first call. The file `memory` says at which address first."""
        self.identity = identity
        self.reach = reach
        self._rota = Rota(reach.places(identity.address), memory)
        self._line = self._dial()
        self._standing = asyncio.Event()
        """Cleared while the stream is broken: what failed with it waits for it, and does not dial before it."""
        self._standing.set()
        self._moved = asyncio.Event()
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """Who is called, for sentences."""
        place = self._rota.place
        return name_peer(place.host, place.site_port, self.reach.way.to(place.host))

    def adopt(self, identity: Identity) -> None:
        """Go on under a new certificate or trust: new calls take a new channel, those going on end on theirs."""
        self.identity = identity
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
        self._move()

    def _dial(self) -> Line:
        place = self._rota.place
        return Line(self.identity, place, self.reach.way.to(place.host))

    def _move(self) -> None:
        old, self._line = self._line, self._dial()
        task = asyncio.create_task(old.retire())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def close(self) -> None:
        """Hang up."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(self._line.close(), *self._retiring, return_exceptions=True)

    def uploads(self, kib_per_s: int = 0) -> Uploads:
        """Return the sender of masked updates, which keeps below this rate if there is one."""
        turns = CurrentTransfer(self._current)
        return Uploads(turns, self._own_line, self.explain, self._patience(), Pace(kib_per_s))

    def downloads(self, cache: BlobCache, kib_per_s: int = 0) -> Downloads:
        """Return what fills the cache, and keeps below this rate if there is one."""
        return Downloads(CurrentTransfer(self._current), cache, self.explain, self._patience(), Pace(kib_per_s))

    def explain(self, error: aio.AioRpcError) -> RavanError:
        """Turn a failed call into an error with a sentence."""
        authority = describe_authority(self.identity.ca_certificate)
        return error_from_rpc(error, address=self.address, authority=authority)

    async def watch(
        self, process_id: bytes, after_sequence: int
    ) -> AsyncGenerator[Greeting | Numbered | Unreadable, None]:
        """Yield the greeting, then instructions, until the stream ends; raise RavanError when it breaks.

        When the agent moves to a new channel the stream is opened anew there, behind the last instruction that was
        yielded, and begins with another greeting. Where nobody is at an address the next one is tried.
        """
        while True:
            line, moved, stood = self._line, self._moved, False
            request = wire.WatchRequest(process_id=process_id, after_sequence=after_sequence)
            call = line.hold(line.site.Watch(request))
            try:
                async with aclosing(until_moved(call, moved)) as messages:
                    async for message in messages:
                        if not stood:
                            await asyncio.to_thread(self._rota.worked)
                            self._standing.set()
                        stood = True
                        yield read_message(message)
                        after_sequence = max(after_sequence, message.sequence)
            except aio.AioRpcError as error:
                if not moved.is_set():
                    self._standing.clear()
                    await self._turn(error, stood=stood)
            else:
                if not moved.is_set():
                    self._standing.clear()
                    return
            finally:
                call.cancel()

    async def heartbeat(self, beat: Heartbeat) -> None:
        """Tell that the agent lives, once; raise RavanError when that fails."""
        try:
            await self._line.hold(self._line.site.Heartbeat(heartbeat_to_wire(beat), timeout=CALL_DEADLINE_S))
        except aio.AioRpcError as error:
            raise self.explain(error) from error

    async def report_hardware(self, profile: HardwareProfile) -> None:
        """Report the machine, however long the line takes."""
        request = wire.ReportHardwareRequest(profile=hardware_to_wire(profile))
        await self._insist(lambda site: site.ReportHardware(request, timeout=CALL_DEADLINE_S))

    async def report_job(self, job_id: JobId, profile: JobProfile) -> None:
        """Report a job's measured cost, however long the line takes."""
        request = wire.ReportJobProfileRequest(job_id=job_id, profile=job_profile_to_wire(profile))
        await self._insist(lambda site: site.ReportJobProfile(request, timeout=CALL_DEADLINE_S))

    async def submit(self, submission: Submission) -> None:
        """Send one message of secure aggregation, however long the line takes."""
        request = wire.SubmitSecureAggregationRequest(message=submission_to_wire(submission))
        await self._insist(lambda site: site.SubmitSecureAggregation(request, timeout=CALL_DEADLINE_S))

    async def leave(self, leave: Leave) -> None:
        """Leave a round, or with round 0 a job's preparation, however long the line takes."""
        request = wire.LeaveRoundRequest(
            job_id=leave.job_id or "",
            round=leave.round_number,
            reason=enums.DROP_REASON.to_wire(leave.reason),
            suspect=leave.suspect,
        )
        await self._insist(lambda site: site.LeaveRound(request, timeout=CALL_DEADLINE_S))

    async def renew(self, tls_csr: bytes, proof: bytes) -> CertificateGrant:
        """Ask once for the next certificate; raise RavanError when that fails."""
        request = wire.RenewRequest(tls_csr=tls_csr, proof=proof)
        try:
            answer = await self._line.hold(self._line.site.Renew(request, timeout=CALL_DEADLINE_S))
        except aio.AioRpcError as error:
            raise await self._look_closer(error) from error
        return grant_from_wire(answer.grant)

    async def withdraw(self) -> None:
        """Leave the federation for good; raise RavanError when that fails."""
        while True:
            try:
                await self._line.hold(self._line.site.Withdraw(wire.WithdrawRequest(), timeout=CALL_DEADLINE_S))
                return
            except aio.AioRpcError as error:
                await self._turn(error, stood=False)

    def _current(self) -> Line:
        return self._line

    @asynccontextmanager
    async def _own_line(self) -> AsyncIterator[UploadStub]:
        """Open a line that ends with the upload: gRPC keeps what it read megabytes with, 200 KB a site at HQ."""
        line = self._dial()
        try:
            yield line.transfer
        finally:
            await line.close()

    def _patience(self) -> Patience:
        return replace(ENDLESS, until=self._standing.wait)

    async def _turn(self, error: aio.AioRpcError, *, stood: bool) -> None:
        """Turn to the next address; raise RavanError when it is not to be tried at once.

        A connection that stood is made again where it was, and only after a pause: when a coordinator ends, all of
        its agents come here together.
        """
        seen = self.explain(error) if stood else await self._look_closer(error)
        failure = seen if stood else self._rota.failed(seen)
        if is_elsewhere(seen):
            # a new channel dials when it is told to; the old one would wait as long as gRPC thinks fit
            self._move()
        if failure is not None:
            raise failure from error

    async def _look_closer(self, error: aio.AioRpcError) -> RavanError:
        return await diagnose(self.explain(error), self.identity, self._rota.place, self.reach.way)

    async def _insist(self, call: Callable[[Site], aio.UnaryUnaryCall[Any, Any]]) -> None:
        """Repeat a call while only the line is at fault, or what will pass; raise RavanError for any other refusal."""
        backoff = Backoff()
        while True:
            try:
                await self._line.hold(call(self._line.site))
                return
            except aio.AioRpcError as error:
                if not _may_pass(error):
                    raise self.explain(error) from error
            await asyncio.sleep(backoff.next_pause_s())
            await self._standing.wait()


def _may_pass(error: aio.AioRpcError) -> bool:
    reason = reason_of(error)
    return error.code() in _LINE_TROUBLE if reason is None else reason in PASSING
