"""A coordinator's transfer side over mutual TLS, and a line in front of it that can be cut at a byte."""

# ruff: noqa: N802 - servicers have the names of their calls

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.primitives.serialization import Encoding
from grpc import aio

from coordinator.api.operator import OperatorPorts, OperatorServicer
from coordinator.api.transfer import TransferServicer
from coordinator.audit.log import AuditLog
from coordinator.enrolment.ca import issue_client
from coordinator.enrolment.pki import Pki
from coordinator.store.base import Store
from coordinator.store.blobs.local import LocalBlobs
from coordinator.store.sql.store import MEMORY, open_store
from coordinator.store.staging import Staging
from ravan.errors import ErrorReason, ProtocolError
from ravan.identity.certificates import Caller, Role
from ravan.identity.keys import new_tls_key, private_pem
from ravan.ids import Digest, RunId, SiteId
from ravan.manifest.instructions import RoundRef
from ravan.rpc.admission import CallLimits
from ravan.rpc.blob_stream import Patience
from ravan.rpc.channel import open_channel
from ravan.rpc.guard import SITE_PORT, GuardPolicy
from ravan.rpc.server import Binding, bind_port, build_server
from ravan.rpc.status import error_from_rpc
from ravan.rpc.tls import enrolled_client, mutual_tls
from ravan.secagg.messages import MaskedHeader
from ravan.wire.v1 import operator_service_pb2_grpc, transfer_service_pb2_grpc

HOST = "127.0.0.1"
LIMITS = CallLimits()
QUICK = Patience(attempts=None, first_s=0.02, longest_s=0.2)
"""Endless, but not slow."""

ROUND = RoundRef(
    run_id=RunId(b"r" * 16),
    round_number=7,
    assignment_digest=Digest(b"a" * 32),
    roster_digest=Digest(b"b" * 32),
)

translate = partial(error_from_rpc, address="coordinator", authority="the test's CA")


def digest_of(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).digest())


def header_for(data: bytes) -> MaskedHeader:
    return MaskedHeader(
        index=2,
        mask_set_digest=Digest(b"m" * 32),
        bundles=(0, 1),
        size_bytes=len(data),
        sha256=digest_of(data),
        signature=bytes(64),
    )


@dataclass
class Desk:
    """Plays the rounds: writes down what is announced and what arrives."""

    refuse: bool = False
    announced: list[tuple[SiteId, RoundRef, MaskedHeader]] = field(default_factory=list)
    arrived_: list[tuple[SiteId, RoundRef, MaskedHeader, bytes]] = field(default_factory=list)

    async def announce(self, site: SiteId, round_ref: RoundRef, header: MaskedHeader) -> None:
        if self.refuse:
            raise ProtocolError("The signature is not valid.", reason=ErrorReason.SIGNATURE_INVALID)
        self.announced.append((site, round_ref, header))

    async def arrived(self, site: SiteId, round_ref: RoundRef, header: MaskedHeader, path: Path) -> None:
        self.arrived_.append((site, round_ref, header, await asyncio.to_thread(path.read_bytes)))


class CountingTransfers(TransferServicer):
    """Writes down the offsets that downloads ask for."""

    def __init__(self, **ports: Any) -> None:
        super().__init__(**ports)
        self.offsets: list[int] = []

    async def Download(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.offsets.append(request.offset)
        async for part in super().Download(request, context):
            yield part


@dataclass
class BlobsAlone:
    """What the blob calls of operators need of the operator servicer's ports: nothing else is called."""

    blobs: LocalBlobs
    store: Store
    audit: AuditLog
    clock: None = None


@dataclass
class Coordinator:
    """What a test looks at."""

    pki: Pki
    port: int
    blobs: LocalBlobs
    staging: Staging
    desk: Desk
    servicer: CountingTransfers
    stored: list[int]
    allowed: set[Digest]
    bases: dict[Digest, bytes]
    server: aio.Server
    refused: list[ErrorReason]


def nobody(caller: Caller) -> bool:
    return False


@asynccontextmanager
async def coordinator(
    pki: Pki, folder: Path, *, staging: Path | None = None, limits: CallLimits = LIMITS
) -> AsyncIterator[Coordinator]:
    """Serve transfers from `folder`, with staging elsewhere when it is given."""
    refused: list[ErrorReason] = []
    stored: list[int] = []
    allowed: set[Digest] = set()
    bases: dict[Digest, bytes] = {}
    blobs, uploads, desk = LocalBlobs(folder / "blobs"), Staging(staging or folder / "staging"), Desk()

    async def may_download(digest: Digest) -> bool:
        return digest in allowed

    servicer = CountingTransfers(
        blobs=blobs,
        staging=uploads,
        uploads=desk,
        basis=bases.get,
        may_download=may_download,
        on_bytes=stored.append,
    )
    store = open_store(MEMORY)
    alone = BlobsAlone(blobs, store, AuditLog(pki.manifest_key))
    operators = OperatorServicer(cast(OperatorPorts, alone))
    server = build_server(GuardPolicy(access=SITE_PORT, is_revoked=nobody, limits=limits, on_refusal=refused.append))
    transfer_service_pb2_grpc.add_TransferServiceServicer_to_server(servicer, server)
    operator_service_pb2_grpc.add_OperatorServiceServicer_to_server(operators, server)
    credentials = mutual_tls(key=pki.server_key, certificate=pki.server_certificate, ca_certificate=pki.ca_pem)
    port = bind_port(server, Binding(host=HOST, port=0, config_key="site_port"), credentials)
    await server.start()
    try:
        yield Coordinator(pki, port, blobs, uploads, desk, servicer, stored, allowed, bases, server, refused)
    finally:
        await server.stop(None)
        await store.close()


@asynccontextmanager
async def connect(pki: Pki, port: int, name: str = "plant-a", role: Role = Role.AGENT) -> AsyncIterator[aio.Channel]:
    """Connect with a fresh certificate."""
    key = new_tls_key()
    certificate = issue_client(pki.authority, key.public_key(), role=role, name=name, now=time.time())
    credentials = enrolled_client(
        key=private_pem(key), certificate=certificate.public_bytes(Encoding.PEM), ca_certificate=pki.ca_pem
    )
    async with open_channel(HOST, port, credentials) as channel:
        yield channel


class Line:
    """A relay that cuts its first connections after so many bytes each; later ones hold."""

    def __init__(self, cuts: list[int]) -> None:
        self._cuts = cuts
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def to(self, port: int) -> AsyncIterator[int]:
        """Relay to `port` and yield the port to dial."""
        self._port = port
        server = await asyncio.start_server(self._relay, HOST, 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = self._cuts[self.connections] if self.connections < len(self._cuts) else None
        self.connections += 1
        up_reader, up_writer = await asyncio.open_connection(HOST, self._port)
        budget = [left]
        ends = (writer.transport, up_writer.transport)
        for source, target in ((reader, up_writer), (up_reader, writer)):
            task = asyncio.create_task(_pump(source, target, budget, ends))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


async def _pump(
    source: asyncio.StreamReader,
    target: asyncio.StreamWriter,
    budget: list[int | None],
    ends: tuple[asyncio.WriteTransport, asyncio.WriteTransport],
) -> None:
    try:
        while data := await source.read(16384):
            if budget[0] is not None:
                budget[0] -= len(data)
                if budget[0] < 0:
                    break
            target.write(data)
            await target.drain()
    except OSError:
        pass
    finally:
        for end in ends:
            end.abort()
