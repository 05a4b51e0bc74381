"""The site servicer: what agents call. The site is always the certificate's, never the request's."""

# ruff: noqa: N802 - names of the methods are the wire's

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from grpc import aio

from coordinator.api.desks import RoundDesk
from coordinator.api.membership import MembershipDesk
from coordinator.audit.entries import actor_of
from coordinator.fleet.fleet import Fleet
from ravan.clock import Clock
from ravan.codec import enums, fields
from ravan.codec.grants import grant_to_wire
from ravan.codec.instructions import greeting_to_wire, numbered_to_wire, watch_request_from_wire
from ravan.codec.profiles import hardware_from_wire, heartbeat_from_wire, job_profile_from_wire
from ravan.codec.secagg_messages import submission_from_wire
from ravan.ids import JobId
from ravan.manifest.instructions import Greeting
from ravan.rpc.caller import calling_site, current_caller
from ravan.wire.v1 import site_service_pb2 as wire
from ravan.wire.v1 import site_service_pb2_grpc

_ROUNDS = (1 << 63) - 1

_Context = aio.ServicerContext[Any, Any]


class SiteServicer(site_service_pb2_grpc.SiteServiceServicer):
    """Translate what agents call."""

    def __init__(
        self,
        fleet: Fleet,
        rounds: RoundDesk,
        members: MembershipDesk,
        clock: Clock,
        *,
        heartbeat_interval_s: int,
        timeline: bytes,
        on_heartbeat: Callable[[], None],
        minimum_agent_version: str = "",
    ) -> None:
        """Serve from these; `timeline` tells agents whether the records were put back to a backup."""
        self._fleet = fleet
        self._rounds = rounds
        self._members = members
        self._clock = clock
        self._heartbeat_interval_s = heartbeat_interval_s
        self._timeline = timeline
        self._minimum_agent_version = minimum_agent_version
        self._on_heartbeat = on_heartbeat

    async def Watch(self, request: wire.WatchRequest, context: _Context) -> AsyncIterator[wire.WatchResponse]:
        """Attach the site, greet it, and stream its instructions."""
        site = calling_site(context)
        process, after_sequence = watch_request_from_wire(request)
        async with aclosing(self._fleet.watch(site, process, after_sequence)) as instructions:
            async for numbered in instructions:
                yield self._greet() if numbered is None else numbered_to_wire(numbered)
                del numbered  # see `Outbox.follow`

    async def Heartbeat(self, request: wire.HeartbeatRequest, context: _Context) -> wire.HeartbeatResponse:
        """Take note of a sign of life."""
        self._on_heartbeat()
        await self._fleet.hear(calling_site(context), heartbeat_from_wire(request))
        return wire.HeartbeatResponse()

    async def ReportHardware(
        self, request: wire.ReportHardwareRequest, context: _Context
    ) -> wire.ReportHardwareResponse:
        """Take a machine's profile."""
        fields.require(request, "profile")
        await self._fleet.report_hardware(calling_site(context), hardware_from_wire(request.profile))
        return wire.ReportHardwareResponse()

    async def ReportJobProfile(
        self, request: wire.ReportJobProfileRequest, context: _Context
    ) -> wire.ReportJobProfileResponse:
        """Take a job's measured cost."""
        fields.require(request, "profile")
        job_id = JobId(fields.text(request.job_id, "job id"))
        await self._rounds.job_profiled(calling_site(context), job_id, job_profile_from_wire(request.profile))
        return wire.ReportJobProfileResponse()

    async def SubmitSecureAggregation(
        self, request: wire.SubmitSecureAggregationRequest, context: _Context
    ) -> wire.SubmitSecureAggregationResponse:
        """Take a message of secure aggregation."""
        fields.require(request, "message")
        await self._rounds.submit_message(calling_site(context), submission_from_wire(request.message))
        return wire.SubmitSecureAggregationResponse()

    async def LeaveRound(self, request: wire.LeaveRoundRequest, context: _Context) -> wire.LeaveRoundResponse:
        """Let a site leave a round or a job's preparation."""
        site, reason = calling_site(context), enums.DROP_REASON.from_wire(request.reason)
        if not request.job_id:
            await self._rounds.refused(site, reason)
            return wire.LeaveRoundResponse()
        job_id = JobId(fields.text(request.job_id, "job id"))
        number = fields.ranged(request.round, 0, _ROUNDS, "round number")
        if request.HasField("suspect"):
            await self._rounds.accused(site, job_id, number, fields.index(request.suspect, "suspect"))
        await self._rounds.left(site, job_id, number, reason)
        return wire.LeaveRoundResponse()

    async def Renew(self, request: wire.RenewRequest, context: _Context) -> wire.RenewResponse:
        """Certify the site's next key."""
        grant = await self._members.renew(current_caller(context), request.tls_csr, request.proof)
        return wire.RenewResponse(grant=grant_to_wire(grant))

    async def Withdraw(self, _: wire.WithdrawRequest, context: _Context) -> wire.WithdrawResponse:
        """Let the site go for good."""
        await self._members.withdraw(calling_site(context), actor_of(current_caller(context)))
        return wire.WithdrawResponse()

    def _greet(self) -> wire.WatchResponse:
        return greeting_to_wire(
            Greeting(
                heartbeat_interval_s=self._heartbeat_interval_s,
                coordinator_time=self._clock.now(),
                timeline=self._timeline,
                hand_over=self._members.hand_over(),
                minimum_agent_version=self._minimum_agent_version,
                return_spread_s=self._members.return_spread_s(),
            )
        )
