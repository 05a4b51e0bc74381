"""An operator's program: a typed client of the operator service, for the command line and for scripts.

    async with OperatorClient(local_endpoint(load_config(path), path)) as client:
        sites = await client.list_sites()

Every method raises RavanError with a sentence; the values are the wire's messages.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from grpc import aio

from coordinator.config import CoordinatorFile, DataFolder
from coordinator.enrolment.pki import OperatorIdentity, load_operator
from coordinator.jobs.jobfile import evaluation_path, read_job_file
from coordinator.jobs.models import collect_model_folder
from ravan.codec.references import blob_to_wire, file_to_wire
from ravan.errors import ConfigError, DataError, ErrorReason
from ravan.identity.certificates import describe_authority
from ravan.identity.keyfiles import read_private
from ravan.ids import Digest
from ravan.manifest.plan import ModelFile
from ravan.rpc import blob_stream
from ravan.rpc.addresses import target_of
from ravan.rpc.channel import open_channel
from ravan.rpc.status import error_from_rpc
from ravan.rpc.tls import enrolled_client
from ravan.way_out import way_of_environment
from ravan.wire.v1 import operator_service_pb2 as wire
from ravan.wire.v1.operator_service_pb2_grpc import OperatorServiceStub

CALL_S: Final = 30.0
"""Deadline of calls that only look something up."""
CHECK_S: Final = 600.0
"""Deadline of calls in which the coordinator loads a model before it answers."""

_EVERYWHERE: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared, not bound

Progress = Callable[[str, int, int], None]
"""Told name, bytes done and bytes in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A coordinator and the identity to call it with."""

    host: str
    port: int
    identity: OperatorIdentity
    start_command: str = ""
    """How to start the coordinator, when it is this machine's."""


def local_endpoint(config: CoordinatorFile, path: Path) -> Endpoint:
    """Return this machine's coordinator with its administrator's certificate; `path` is the configuration file.

    Raises IdentityError when the certificate cannot be read.
    """
    server, folder = config.server, DataFolder(config.server.data_dir)
    return Endpoint(
        host="127.0.0.1" if server.listen in _EVERYWHERE else server.listen,
        port=server.site_port or _bound_port(folder),
        identity=load_operator(folder.pki),
        start_command=f"ravan-coordinator serve --config {path}",
    )


def remote_endpoint(server: str, *, certificate: Path, key: Path, ca: Path) -> Endpoint:
    """Return a coordinator on another machine; raise ConfigError for an address that is not HOST:PORT."""
    host, _, port = server.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ConfigError(
            f"`{server}` is not HOST:PORT.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="Write for example `--server hq.example:8443`.",
        )
    identity = OperatorIdentity(key=read_private(key), certificate=read_private(certificate), ca_pem=read_private(ca))
    return Endpoint(host=host.strip("[]"), port=int(port), identity=identity)


class OperatorClient:
    """Call a coordinator as an operator."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def __aenter__(self) -> Self:
        identity = self._endpoint.identity
        credentials = enrolled_client(
            key=identity.key, certificate=identity.certificate, ca_certificate=identity.ca_pem
        )
        proxy = way_of_environment(os.environ).to(self._endpoint.host)
        self._channel = open_channel(self._endpoint.host, self._endpoint.port, credentials, proxy)
        self._stub: Any = OperatorServiceStub(self._channel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def create_token(self, site: str, *, ttl_s: int = 0) -> wire.CreateTokenResponse:
        """Make a join string for a site; 0 seconds mean the default of 24 hours."""
        request = wire.CreateTokenRequest(site=site, ttl_s=ttl_s)
        answer: wire.CreateTokenResponse = await self._change("CreateToken", request)
        return answer

    async def list_sites(self, name: str = "") -> Sequence[wire.Site]:
        """Return the fleet, or the one site of this name."""
        answer: wire.ListSitesResponse = await self._call("ListSites", wire.ListSitesRequest(name=name))
        return answer.sites

    async def revoke_site(self, name: str) -> None:
        """Revoke a site's certificate and end its connection."""
        await self._change("RevokeSite", wire.RevokeSiteRequest(name=name))

    async def endorse_site(self, name: str, endorsement: bytes) -> None:
        """Hand over the owner's endorsement of a site."""
        await self._change("EndorseSite", wire.EndorseSiteRequest(name=name, endorsement=endorsement))

    async def add_model(self, folder: Path, name: str, progress: Progress | None = None) -> wire.Model:
        """Upload a model folder's files and register them; what is there already is not sent again."""
        files = [
            ModelFile(path=file, sha256=_hash_file(path), size_bytes=path.stat().st_size)
            for file, path in collect_model_folder(folder).files.items()
        ]
        for file in files:
            await self._upload(folder / file.path, file.sha256, progress)
        request = wire.AddModelRequest(name=name, files=[file_to_wire(file) for file in files])
        answer: wire.AddModelResponse = await self._change("AddModel", request, timeout_s=CHECK_S)
        return answer.model

    async def list_models(self) -> Sequence[wire.Model]:
        """Return the base models."""
        answer: wire.ListModelsResponse = await self._call("ListModels", wire.ListModelsRequest())
        return answer.models

    async def submit_job(
        self, path: Path, *, request_id: str | None = None, progress: Progress | None = None
    ) -> wire.SubmitJobResponse:
        """Upload a job file's held-out data and submit the job; repeating a request id does nothing twice."""
        text = _read_job_text(path)
        data = evaluation_path(read_job_file(text, source=str(path)), path)
        if not data.is_file():
            raise _no_held_out(data, path)
        digest = _hash_file(data)
        await self._upload(data, digest, progress)
        request = wire.SubmitJobRequest(
            job_toml=text,
            evaluation_data=blob_to_wire(digest, data.stat().st_size),
            request_id=request_id or "",
        )
        answer: wire.SubmitJobResponse = await self._change("SubmitJob", request, timeout_s=CHECK_S)
        return answer

    async def list_jobs(self) -> Sequence[wire.Job]:
        """Return all jobs in short, newest first."""
        answer: wire.ListJobsResponse = await self._call("ListJobs", wire.ListJobsRequest())
        return answer.jobs

    async def get_job(self, job: str) -> wire.Job:
        """Return a job with its rounds, by id or name."""
        answer: wire.GetJobResponse = await self._call("GetJob", wire.GetJobRequest(job_id=job))
        return answer.job

    async def watch_job(self, job: str) -> AsyncIterator[wire.WatchJobResponse]:
        """Yield a job and the connected sites after each change, until the job ends."""
        with self._translated():
            call = self._stub.WatchJob(wire.WatchJobRequest(job_id=job))
            try:
                async for view in call:
                    yield view
            finally:
                call.cancel()

    async def pause_job(self, job: str) -> None:
        """Start no further rounds."""
        await self._change("PauseJob", wire.PauseJobRequest(job_id=job))

    async def resume_job(self, job: str) -> None:
        """Go on with a paused job."""
        await self._change("ResumeJob", wire.ResumeJobRequest(job_id=job))

    async def stop_job(self, job: str) -> None:
        """End a job."""
        await self._change("StopJob", wire.StopJobRequest(job_id=job))

    async def download_blob(self, digest: bytes, path: Path, progress: Progress | None = None) -> None:
        """Fetch a blob by its SHA-256 into a file; its hash is checked."""
        with self._translated():
            intake = blob_stream.Intake(progress=_named(progress, path.name))
            await blob_stream.download(self._stub.DownloadBlob, Digest(digest), path, intake=intake)

    async def _upload(self, path: Path, digest: Digest, progress: Progress | None) -> None:
        with self._translated():
            await blob_stream.upload(self._stub.UploadBlob, digest, path, progress=_named(progress, path.name))

    async def _change(self, method: str, request: Any, *, timeout_s: float = CALL_S) -> Any:
        """Call what changes something; by the id the channel may repeat it, and nothing is done twice."""
        request.request_id = request.request_id or secrets.token_hex(16)
        return await self._call(method, request, timeout_s=timeout_s)

    async def _call(self, method: str, request: Any, *, timeout_s: float = CALL_S) -> Any:
        with self._translated():
            return await getattr(self._stub, method)(request, timeout=timeout_s)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        endpoint = self._endpoint
        try:
            yield
        except aio.AioRpcError as error:
            refusal = error_from_rpc(
                error,
                address=target_of(endpoint.host, endpoint.port),
                authority=describe_authority(endpoint.identity.ca_pem),
            )
            if refusal.reason is ErrorReason.UNREACHABLE and endpoint.start_command:
                refusal.next_step = f"If it is not running, start it: `{endpoint.start_command}`."
            raise refusal from error


def _named(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(name, done, total)


def _hash_file(path: Path) -> Digest:
    with path.open("rb") as file:
        return Digest(hashlib.file_digest(file, "sha256").digest())


def _no_held_out(data: Path, job_file: Path) -> DataError:
    if data.is_dir():
        return DataError(
            f"The held-out data {data} of the job is a folder, and only files are sent.",
            reason=ErrorReason.DATA_UNREADABLE,
            next_step=f"Pack it into a zip file and name that in `evaluation.data` in {job_file}.",
        )
    return DataError(
        f"The held-out file {data} of the job does not exist.",
        reason=ErrorReason.DATA_UNREADABLE,
        next_step=f"Correct `evaluation.data` in {job_file}; it is relative to the job file.",
    )


def _read_job_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"The job file {path} cannot be read: {(cause or str(error)).lower()}.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="`ravan-coordinator job sample` prints one to start from.",
        ) from error


def _bound_port(folder: DataFolder) -> int:
    """Return the port that a daemon with `site_port = 0` was given."""
    try:
        return int(json.loads(folder.ports.read_text(encoding="utf-8"))["site_port"])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            "The coordinator is not running, and `server.site_port` is 0, so nobody knows its port.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="Start it with `ravan-coordinator serve`, or set `server.site_port`.",
        ) from error
