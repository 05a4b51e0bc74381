"""The operator servicer: fleet, models, jobs and blobs for whoever holds an operator certificate."""

# ruff: noqa: N802, ARG002 - names and arguments of the methods are the wire's

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from grpc import aio

from coordinator.api import views
from coordinator.api.answers import AnswerBook, answered_once
from coordinator.api.blob_stream import receive_blob, send_blob
from coordinator.api.desks import JobDesk, JobDetail
from coordinator.audit.entries import actor_of, content_exported, model_added
from coordinator.audit.log import AuditLog
from coordinator.audit.selection import newest_records
from coordinator.enrolment.registry import Registry
from coordinator.fleet.fleet import Fleet
from coordinator.fleet.status import invited_sites
from coordinator.leases.lease import ROUNDS, Lead
from coordinator.status.gathering import gather_deeds
from coordinator.store.base import Store, Transaction
from coordinator.store.blobs.base import OwnedBlobs
from coordinator.store.records import ModelRecord, SiteRecord, TokenRecord
from coordinator.work.tasks import Task
from ravan.clock import Clock
from ravan.codec import fields
from ravan.codec.references import blob_from_wire, file_from_wire
from ravan.errors import ErrorReason, StateError, TransferError
from ravan.ids import JobId
from ravan.manifest.phases import ENDED_JOBS
from ravan.manifest.plan import ModelFile
from ravan.rpc.blob_stream import GO_ON
from ravan.rpc.caller import current_caller
from ravan.wire.v1 import operator_service_pb2 as wire
from ravan.wire.v1 import operator_service_pb2_grpc, transfer_service_pb2

PROGRESS_INTERVAL_S: Final = 1.0
"""How often a watched job shows what the sites are doing, beside the changes of the job itself."""

_JOB_FILE_LIMIT: Final = 1 << 20
_Context = aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorPorts:
    """Everything that the operator servicer calls."""

    registry: Registry
    fleet: Fleet
    store: Store
    blobs: OwnedBlobs
    jobs: JobDesk
    audit: AuditLog
    clock: Clock
    minimum_agent_version: str = ""
    """Oldest agent that takes part in rounds; empty: any."""


@dataclass(frozen=True, slots=True)
class _LogView:
    """What a watched job has shown of the audit log, which is read again when it has grown."""

    sequence: int = 0
    deeds: tuple[wire.Deed, ...] = ()


class OperatorServicer(operator_service_pb2_grpc.OperatorServiceServicer):
    """Translate what operators call."""

    def __init__(self, ports: OperatorPorts) -> None:
        self._ports = ports
        self.answers = AnswerBook(ports.store, ports.clock)
        self._closing = False

    def close(self) -> None:
        """End the streams of those who watch jobs, within `PROGRESS_INTERVAL_S`."""
        self._closing = True

    async def CreateToken(self, request: wire.CreateTokenRequest, context: _Context) -> wire.CreateTokenResponse:
        """Make a join string."""
        request_id = fields.text(request.request_id, "request id", empty=True)
        join_string, expires_at = await self._ports.registry.create_token(
            request.site, life_s=request.ttl_s, request_id=request_id, by=_actor(context)
        )
        return wire.CreateTokenResponse(join_string=join_string, expires_at=expires_at)

    async def ListSites(self, request: wire.ListSitesRequest, context: _Context) -> wire.ListSitesResponse:
        """Show the fleet or one site."""
        views_ = await self._sites()
        if not request.name:
            return wire.ListSitesResponse(sites=views_)
        found = [view for view in views_ if view.name == request.name]
        if not found:
            raise StateError(
                f"There is no site {fields.text(request.name, 'site name')}.",
                reason=ErrorReason.NOT_FOUND,
                next_step="`ravan-coordinator site list` shows all sites.",
            )
        return wire.ListSitesResponse(sites=found)

    @answered_once(wire.RevokeSiteResponse)
    async def RevokeSite(self, request: wire.RevokeSiteRequest, context: _Context) -> wire.RevokeSiteResponse:
        """Refuse a site from now on and end its stream."""
        site = fields.site(request.name)
        await self._ports.registry.revoke(site, _actor(context))
        await self._ports.fleet.expel(site)
        return wire.RevokeSiteResponse()

    @answered_once(wire.EndorseSiteResponse)
    async def EndorseSite(self, request: wire.EndorseSiteRequest, context: _Context) -> wire.EndorseSiteResponse:
        """Keep an owner's endorsement of a site."""
        endorsement = fields.fixed(request.endorsement, fields.SIGNATURE_BYTES, "endorsement")
        await self._ports.registry.endorse(fields.site(request.name), endorsement, _actor(context))
        return wire.EndorseSiteResponse()

    async def UploadBlob(
        self, request_iterator: AsyncIterator[wire.UploadBlobRequest], context: _Context
    ) -> wire.UploadBlobResponse:
        """Store content under its hash."""
        async for request in request_iterator:
            fields.require(request, "blob")
            chunks = _chunks(request_iterator)
            existed = await receive_blob(
                chunks, request.blob, self._ports.blobs, lambda: context.send_initial_metadata((GO_ON,))
            )
            return wire.UploadBlobResponse(existed=existed)
        raise fields.malformed("The upload is empty.")

    async def DownloadBlob(
        self, request: wire.DownloadBlobRequest, context: _Context
    ) -> AsyncIterator[wire.DownloadBlobResponse]:
        """Send stored content from an offset; that it goes out is recorded before its first byte does."""
        digest = fields.digest(request.sha256, "hash")
        await asyncio.to_thread(self._ports.blobs.size, digest)  # what is not there is not exported
        exported = content_exported(digest, _actor(context))
        await self._ports.store.transact(
            "note_export", lambda transaction: self._ports.audit.append(transaction, exported)
        )
        async for size_bytes, chunk in await asyncio.to_thread(send_blob, self._ports.blobs, digest, request.offset):
            yield wire.DownloadBlobResponse(size_bytes=size_bytes, chunk=chunk)

    @answered_once(wire.AddModelResponse)
    async def AddModel(self, request: wire.AddModelRequest, context: _Context) -> wire.AddModelResponse:
        """Take in a base model whose files are here already."""
        files = [file_from_wire(file) for file in request.files]
        model = await self._take_in(fields.text(request.name, "model name"), files, _actor(context))
        return wire.AddModelResponse(model=views.model_view(model))

    async def ListModels(self, request: wire.ListModelsRequest, context: _Context) -> wire.ListModelsResponse:
        """Show the base models."""
        models = await self._ports.store.transact("list_models", lambda transaction: transaction.list_models())
        return wire.ListModelsResponse(models=[views.model_view(model) for model in models])

    @answered_once(wire.SubmitJobResponse)
    async def SubmitJob(self, request: wire.SubmitJobRequest, context: _Context) -> wire.SubmitJobResponse:
        """Check a job and start it."""
        if len(request.job_toml) > _JOB_FILE_LIMIT:
            raise TransferError("The job file is larger than 1 MiB.", reason=ErrorReason.TOO_LARGE)
        fields.require(request, "evaluation_data")
        digest, _ = blob_from_wire(request.evaluation_data)
        request_id = fields.text(request.request_id, "request id")
        accepted = await self._ports.jobs.submit_job(request.job_toml, digest, request_id, _actor(context))
        return wire.SubmitJobResponse(job_id=accepted.job_id, notes=accepted.notes)

    async def ListJobs(self, request: wire.ListJobsRequest, context: _Context) -> wire.ListJobsResponse:
        """Show all jobs in short."""
        jobs, lead = await self._ports.jobs.jobs(), await self._read_lead()
        return wire.ListJobsResponse(jobs=[views.job_summary(job, lead) for job in jobs])

    async def GetJob(self, request: wire.GetJobRequest, context: _Context) -> wire.GetJobResponse:
        """Show one job with its rounds."""
        return wire.GetJobResponse(job=await self._view(await self._detail(request.job_id)))

    async def WatchJob(self, request: wire.WatchJobRequest, context: _Context) -> AsyncIterator[wire.WatchJobResponse]:
        """Show one job whenever it or its sites' progress changes, until it ends."""
        version, shown, log = 0, b"", _LogView()
        while not self._closing:
            detail, log = await self._detail(request.job_id), await self._look_at_log(log)
            view = wire.WatchJobResponse(
                job=await self._view(detail),
                sites=await self._sites(),
                deeds=log.deeds,
                now=self._ports.clock.now(),
            )
            content = _content_of(view)
            if content != shown:
                shown = content
                yield view
            if detail.record.state in ENDED_JOBS:
                return
            version = await self._next_version(detail.record.job_id, version)

    @answered_once(wire.PauseJobResponse)
    async def PauseJob(self, request: wire.PauseJobRequest, context: _Context) -> wire.PauseJobResponse:
        """Start no further rounds."""
        await self._ports.jobs.pause_job(fields.text(request.job_id, "job"), _actor(context))
        return wire.PauseJobResponse()

    @answered_once(wire.ResumeJobResponse)
    async def ResumeJob(self, request: wire.ResumeJobRequest, context: _Context) -> wire.ResumeJobResponse:
        """Go on with a paused job."""
        await self._ports.jobs.resume_job(fields.text(request.job_id, "job"), _actor(context))
        return wire.ResumeJobResponse()

    @answered_once(wire.StopJobResponse)
    async def StopJob(self, request: wire.StopJobRequest, context: _Context) -> wire.StopJobResponse:
        """End a job."""
        await self._ports.jobs.stop_job(fields.text(request.job_id, "job"), _actor(context))
        return wire.StopJobResponse()

    async def _detail(self, id_or_name: str) -> JobDetail:
        return await self._ports.jobs.job_detail(fields.text(id_or_name, "job"))

    async def _read_lead(self) -> Lead:
        return await self._ports.store.transact("read_lead", _lead_in)

    async def _view(self, detail: JobDetail) -> wire.Job:
        def work(transaction: Transaction) -> tuple[Lead, list[Task]]:
            own = [task for task in transaction.list_tasks() if task.job_id == detail.record.job_id]
            return _lead_in(transaction), own

        lead, tasks = await self._ports.store.transact("read_lead", work)
        return views.job_view(
            detail.record,
            detail.rounds,
            lead,
            ready_sites=detail.ready_sites,
            awaited=detail.awaited,
            tasks=tasks,
        )

    async def _next_version(self, job_id: JobId, version: int) -> int:
        try:
            async with asyncio.timeout(PROGRESS_INTERVAL_S):
                return await self._ports.jobs.changed(job_id, version)
        except TimeoutError:
            return version

    async def _take_in(self, name: str, files: Sequence[ModelFile], by: str) -> ModelRecord:
        from coordinator.jobs.models import record_model  # noqa: PLC0415 - models come seldom

        ports = self._ports
        model = await asyncio.to_thread(record_model, name, files, ports.blobs, ports.clock.now())

        def work(transaction: Transaction) -> None:
            transaction.put_model(model)
            ports.audit.append(transaction, model_added(model, by))

        await ports.store.transact("put_model", work)
        return model

    async def _look_at_log(self, before: _LogView) -> _LogView:
        def work(transaction: Transaction) -> _LogView:
            seal = transaction.get_audit_seal()
            sequence = 0 if seal is None else seal.sequence
            if sequence == before.sequence:
                return before
            deeds = gather_deeds(newest_records(transaction))
            return _LogView(sequence, tuple(views.deed_view(deed) for deed in deeds))

        return await self._ports.store.transact("read_deeds", work)

    async def _sites(self) -> list[wire.Site]:
        sites, tokens = await self._ports.store.transact(
            "list_sites", lambda transaction: (transaction.list_sites(), transaction.list_open_tokens())
        )
        return _site_views(sites, tokens, self._ports)


def _actor(context: _Context) -> str:
    return actor_of(current_caller(context))


async def _chunks(requests: AsyncIterator[wire.UploadBlobRequest]) -> AsyncIterator[transfer_service_pb2.Chunk]:
    async for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise fields.malformed("A header may only open an upload.")
        yield request.chunk


def _site_views(sites: Sequence[SiteRecord], tokens: Sequence[TokenRecord], ports: OperatorPorts) -> list[wire.Site]:
    online, resting = ports.fleet.online(), ports.jobs.resting()
    least = ports.minimum_agent_version
    shown = [views.site_view(site, online.get(site.name), resting.get(site.name, ""), least) for site in sites]
    shown += [views.invited_view(name) for name in invited_sites(tokens, sites, ports.clock.now())]
    return sorted(shown, key=lambda view: view.name)


def _lead_in(transaction: Transaction) -> Lead:
    return Lead(lease=transaction.get_lease(ROUNDS), now=transaction.now())


def _content_of(view: wire.WatchJobResponse) -> bytes:
    """Return what is worth showing again when it changes: that time passes or a lease was renewed is not."""
    compared = wire.WatchJobResponse.FromString(view.SerializeToString())
    compared.ClearField("now")
    compared.job.lead.ClearField("until")
    for task in compared.job.tasks:
        task.ClearField("until")
    return compared.SerializeToString(deterministic=True)
