"""Fetch what rounds and jobs have made, while the coordinator can be reached, for the time when it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from edge_agent.serving.kept import KeptPlan
from edge_agent.serving.shelf import ModelShelf
from ravan.adapters.state import decode_state
from ravan.clock import Clock
from ravan.errors import RavanError
from ravan.ids import Digest, JobId, RunId
from ravan.manifest.documents import DocumentKind, SignedDocument
from ravan.manifest.instructions import Instruction, JobEnded, Prepare, RoundResult
from ravan.manifest.phases import RoundOutcome
from ravan.secagg.transcript import document_digest

log = structlog.stdlib.get_logger(__name__)

Fetch = Callable[[Digest], Awaitable[Path]]
"""Brings content by its hash; raises RavanError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tidings:
    """A version that there is, or a job that is over."""

    state_digest: Digest
    """Empty where there is no version."""
    round_number: int
    run_id: RunId | None = None
    ended: JobId | None = None


class VersionCollector:
    """Hear the instructions of a session and keep the newest version of each job that this PC has prepared."""

    def __init__(self, shelf: ModelShelf, fetch: Fetch, manifest_key: bytes, clock: Clock) -> None:
        self._shelf = shelf
        self._fetch = fetch
        self._manifest_key = manifest_key
        self._clock = clock
        self._plans: dict[Digest, SignedDocument] = {}
        """Heard and not prepared yet, by digest."""
        self._heard: asyncio.Queue[_Tidings] = asyncio.Queue()

    def hear(self, instruction: Instruction) -> None:
        """Take note of an instruction whose signature, where it has one, was verified."""
        match instruction:
            case Prepare(plan=document):
                self._plans[document_digest(DocumentKind.PLAN, document.payload)] = document
            case RoundResult(outcome=RoundOutcome.COMMITTED, state_digest=digest, round_number=number, run_id=run_id):
                self._heard.put_nowait(_Tidings(state_digest=digest, round_number=number, run_id=run_id))
            case JobEnded(state_digest=digest, round_number=number, job_id=job_id):
                self._heard.put_nowait(_Tidings(state_digest=digest, round_number=number, ended=job_id))

    async def prepared(self, plan_digest: Digest) -> None:
        """Note that this PC takes part in the job of a plan; what cannot be noted costs the model and not the job."""
        document = self._plans.pop(plan_digest, None)
        if document is not None:
            plan = KeptPlan(document=document, manifest_key=self._manifest_key)
            await _say_failure(asyncio.to_thread(self._shelf.put_plan, plan))

    async def run(self) -> None:
        """Fetch one version after the other until cancelled."""
        while True:
            tidings = await self._heard.get()
            await _say_failure(self._follow(tidings))
            self._heard.task_done()

    async def settled(self) -> None:
        """Wait until all that was heard has been followed."""
        await self._heard.join()

    async def _follow(self, tidings: _Tidings) -> None:
        plan = await asyncio.to_thread(self._plan_of, tidings)
        if plan is None:
            return
        if tidings.state_digest and not await asyncio.to_thread(self._shelf.has, plan, tidings.round_number):
            await self._keep(plan, tidings)
        if tidings.ended is not None:
            await asyncio.to_thread(self._shelf.end_job, tidings.ended)

    def _plan_of(self, tidings: _Tidings) -> KeptPlan | None:
        if tidings.ended is not None:
            return self._shelf.plan_of_job(tidings.ended)
        return None if tidings.run_id is None else self._shelf.plan_of_run(tidings.run_id)

    async def _keep(self, plan: KeptPlan, tidings: _Tidings) -> None:
        path = await self._fetch(tidings.state_digest)
        number = tidings.round_number

        def keep() -> str:
            opened, _ = plan.open()
            state = path.read_bytes()
            decode_state(opened, state)  # what is no version of the job must not replace one
            self._shelf.keep(plan, state, round_number=number, now=self._clock.now())
            return opened.job_name

        name = await asyncio.to_thread(keep)
        log.info("keeps the newest model", job=name, round=number)


async def _say_failure(work: Awaitable[None]) -> None:
    """Wait for work whose failure costs nothing but itself."""
    try:
        await work
    except (RavanError, OSError) as error:
        log.warning("the newest model of a job could not be kept", why=str(error))
    except Exception:  # whatever it is, the agent lives on
        log.exception("the newest model of a job could not be kept")
