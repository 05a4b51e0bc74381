"""A coordinator that a test plays by hand: real ports and real transfers, but every instruction comes from the test."""

# ruff: noqa: N802 - servicers have the names of their calls

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from coordinator.api.membership import grant_of
from coordinator.api.transfer import TransferServicer
from coordinator.enrolment.ca import issue_client
from coordinator.enrolment.pki import Pki, create_pki
from coordinator.store.blobs.local import LocalBlobs
from coordinator.store.records import SiteRecord
from coordinator.store.staging import Staging
from edge_agent.config import SAMPLE
from edge_agent.identity.keystore import Identity, make_keys, save_identity
from ravan.codec import enums
from ravan.codec.grants import grant_to_wire
from ravan.codec.instructions import greeting_to_wire, numbered_to_wire
from ravan.codec.profiles import hardware_from_wire, heartbeat_from_wire, job_profile_from_wire
from ravan.codec.secagg_messages import Submission, submission_from_wire
from ravan.errors import RavanError
from ravan.identity.certificates import Role
from ravan.identity.join import CoordinatorAddress
from ravan.identity.keys import private_pem, requested_key
from ravan.ids import Digest, SiteId
from ravan.manifest.instructions import Greeting, Instruction, Numbered, RoundRef
from ravan.manifest.liveness import Heartbeat
from ravan.manifest.phases import DropReason
from ravan.manifest.profile import HardwareProfile, JobProfile
from ravan.rpc.guard import SITE_PORT, GuardPolicy
from ravan.rpc.server import Binding, Health, bind_port, build_server
from ravan.rpc.tls import mutual_tls
from ravan.secagg.messages import MaskedHeader
from ravan.wire.v1 import site_service_pb2 as wire
from ravan.wire.v1 import site_service_pb2_grpc, transfer_service_pb2_grpc

SITE = SiteId("site-0")
HEARD_WITHIN_S = 90.0

_Heard = TypeVar("_Heard")


@dataclass(frozen=True)
class Attached:
    process_id: bytes
    after_sequence: int


@dataclass(frozen=True)
class Left:
    job_id: str
    round_number: int
    reason: DropReason
    suspect: int | None = None


@dataclass(frozen=True)
class Arrived:
    header: MaskedHeader
    path: Path


@dataclass
class Headquarters(site_service_pb2_grpc.SiteServiceServicer):
    """Everything that agents said, in order, and what they are told."""

    pki: Pki
    manifest_key: Ed25519PrivateKey
    blobs: LocalBlobs
    port: int = 0
    clock_ahead_s: float = 0.0
    refuse: Callable[[Submission], RavanError | None] = lambda _: None
    garble: Callable[[wire.WatchResponse], wire.WatchResponse] = lambda message: message
    _heard: asyncio.Queue[object] = field(default_factory=asyncio.Queue)
    _told: list[Numbered | None] = field(default_factory=list)
    _timeline: bytes = b"1" * 16
    _more: asyncio.Event = field(default_factory=asyncio.Event)
    _beaten: asyncio.Event = field(default_factory=asyncio.Event)
    heartbeats: list[Heartbeat] = field(default_factory=list)
    fetched: list[Digest] = field(default_factory=list)
    """Blobs that agents asked for, in order."""

    def tell(self, instruction: Instruction) -> None:
        """Put an instruction into the site's stream, for ever."""
        self._told.append(Numbered(sequence=len(self._told) + 1, instruction=instruction))
        self._more.set()

    def withdraw(self) -> None:
        """Forget what was told so far; who comes back hears of it no more."""
        self._told = [None] * len(self._told)

    def restore(self) -> None:
        """Be put back to a backup from before anything was told: streams break, numbers begin anew."""
        self._told, self._timeline = [], b"2" * 16
        self._more.set()

    async def hear(self, kind: type[_Heard]) -> _Heard:
        """Wait for the next thing of this kind; what comes before it is passed over."""
        async with asyncio.timeout(HEARD_WITHIN_S):
            while not isinstance(heard := await self._heard.get(), kind):
                pass
        return heard

    async def until(self, shown: Callable[[Heartbeat], bool]) -> Heartbeat:
        """Wait for a heartbeat, from now on, that shows this."""
        async with asyncio.timeout(HEARD_WITHIN_S):
            while True:
                self._beaten.clear()
                await self._beaten.wait()
                if shown(self.heartbeats[-1]):
                    return self.heartbeats[-1]

    async def Watch(self, request: wire.WatchRequest, context: Any) -> AsyncIterator[wire.WatchResponse]:
        self._heard.put_nowait(Attached(request.process_id, request.after_sequence))
        timeline = self._timeline
        greeting = Greeting(
            heartbeat_interval_s=1, coordinator_time=time.time() + self.clock_ahead_s, timeline=timeline
        )
        yield greeting_to_wire(dataclasses.replace(greeting, hand_over=self.pki.hand_over))
        sequence = request.after_sequence
        while timeline == self._timeline:
            # Before looking: what is told while an instruction is on its way must not be missed.
            self._more.clear()
            for numbered in filter(None, self._told[sequence:]):
                sequence = numbered.sequence
                yield self.garble(numbered_to_wire(numbered))
            await self._more.wait()

    async def Heartbeat(self, request: wire.HeartbeatRequest, context: Any) -> wire.HeartbeatResponse:
        self.heartbeats.append(heartbeat_from_wire(request))
        self._beaten.set()
        return wire.HeartbeatResponse()

    async def ReportHardware(self, request: wire.ReportHardwareRequest, context: Any) -> wire.ReportHardwareResponse:
        self._heard.put_nowait(hardware_from_wire(request.profile))
        return wire.ReportHardwareResponse()

    async def ReportJobProfile(
        self, request: wire.ReportJobProfileRequest, context: Any
    ) -> wire.ReportJobProfileResponse:
        self._heard.put_nowait(job_profile_from_wire(request.profile))
        return wire.ReportJobProfileResponse()

    async def Renew(self, request: wire.RenewRequest, context: Any) -> wire.RenewResponse:
        site = SiteRecord(
            name=SITE,
            identity_key=b"",
            certificate_pem=self.certify(requested_key(request.tls_csr)),
            certificate_serial="",
            certificate_expires_at=0.0,
            enrolled_at=0.0,
        )
        self._heard.put_nowait(request)
        return wire.RenewResponse(grant=grant_to_wire(grant_of(site, self.pki)))

    async def Withdraw(self, request: wire.WithdrawRequest, context: Any) -> wire.WithdrawResponse:
        self._heard.put_nowait(request)
        return wire.WithdrawResponse()

    def certify(self, key: EllipticCurvePublicKey) -> bytes:
        """Issue the site's certificate, PEM."""
        issued = issue_client(self.pki.authority, key, role=Role.AGENT, name=SITE, now=time.time())
        return issued.public_bytes(Encoding.PEM)

    async def SubmitSecureAggregation(
        self, request: wire.SubmitSecureAggregationRequest, context: Any
    ) -> wire.SubmitSecureAggregationResponse:
        submission = submission_from_wire(request.message)
        refusal = self.refuse(submission)
        if refusal is not None:
            raise refusal
        self._heard.put_nowait(submission)
        return wire.SubmitSecureAggregationResponse()

    async def LeaveRound(self, request: wire.LeaveRoundRequest, context: Any) -> wire.LeaveRoundResponse:
        suspect = request.suspect if request.HasField("suspect") else None
        reason = enums.DROP_REASON.from_wire(request.reason)
        self._heard.put_nowait(Left(request.job_id, request.round, reason, suspect))
        return wire.LeaveRoundResponse()

    async def may_download(self, digest: Digest) -> bool:
        """Let agents have everything."""
        self.fetched.append(digest)
        return True

    async def announce(self, site: SiteId, round_ref: RoundRef, header: MaskedHeader) -> None:
        """Take any upload."""

    async def arrived(self, site: SiteId, round_ref: RoundRef, header: MaskedHeader, path: Path) -> None:
        self._heard.put_nowait(Arrived(header, path))


@asynccontextmanager
async def headquarters(folder: Path) -> AsyncIterator[Headquarters]:
    """Serve on a port of loopback."""
    pki = create_pki(folder / "pki", ["127.0.0.1"], now=time.time())
    hq = Headquarters(pki=pki, manifest_key=pki.manifest_key, blobs=LocalBlobs(folder / "blobs"))
    transfers = TransferServicer(
        blobs=hq.blobs,
        staging=Staging(folder / "staging"),
        uploads=hq,
        basis=lambda _: None,
        may_download=hq.may_download,
        on_bytes=lambda _: None,
    )
    server = build_server(GuardPolicy(access=SITE_PORT, is_revoked=lambda _: False))
    site_service_pb2_grpc.add_SiteServiceServicer_to_server(hq, server)
    transfer_service_pb2_grpc.add_TransferServiceServicer_to_server(transfers, server)
    health = Health([""])
    health.add_to(server)
    credentials = mutual_tls(key=pki.server_key, certificate=pki.server_certificate, ca_certificate=pki.ca_pem)
    hq.port = bind_port(server, Binding(host="127.0.0.1", port=0, config_key="site_port"), credentials)
    await server.start()
    await health.announce_serving()
    try:
        yield hq
    finally:
        await server.stop(None)


def enrol_by_hand(pki: Pki, port: int, folder: Path, extra: str = "") -> Path:
    """Make an enrolled agent's folder and return its configuration file."""
    keys = make_keys(folder / "identity")
    certificate = issue_client(pki.authority, keys.tls.public_key(), role=Role.AGENT, name=SITE, now=time.time())
    save_identity(
        folder / "identity",
        Identity(
            site=SITE,
            address=CoordinatorAddress(host="127.0.0.1", enrolment_port=1, site_port=port),
            tls_key=private_pem(keys.tls),
            certificate=certificate.public_bytes(Encoding.PEM),
            ca_certificate=pki.ca_pem,
            identity_key=keys.identity,
            manifest_key=pki.manifest_public,
        ),
    )
    path = folder / "agent.toml"
    path.write_text(SAMPLE + extra)
    return path


__all__ = [
    "SITE",
    "Arrived",
    "Attached",
    "HardwareProfile",
    "Headquarters",
    "JobProfile",
    "Left",
    "enrol_by_hand",
    "headquarters",
]
