"""What a light agent has in place of a PC with a model: nothing to measure, prepare or train.

Each class is the product's own with the heavy step replaced, so that all that surrounds it stays real.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from edge_agent.hardware.probe import HardwareProbe
from edge_agent.host.watch import HostWatch
from edge_agent.secure.offer import UnmaskedUpdate
from edge_agent.session.effects import DealShares, RevealShares, SignSurvivorSet, StartTraining, UploadMasked
from edge_agent.session.job_desk import JobDesk, PreparedJob
from edge_agent.session.round_desk import RoundDesk
from edge_agent.session.round_training import RoundFolder, RoundTraining
from edge_agent.worker.bench import JobFiles
from ravan.adapters.planned_bases import BasisFiles
from ravan.ids import BlockId, Digest
from ravan.manifest.plan import JobPlan
from ravan.manifest.profile import HardwareProfile, JobProfile, LimitSource
from ravan.version import VERSION
from simulation.steps import Step
from simulation.update import make_up_update

Gate = Callable[[Step, int], Awaitable[None]]
"""Passed before each step of a round, which is named by its number; may hold the agent or never let it go on."""

_MIB: Final = 1 << 20
_SAME_DATA: Final = (0, 0, 0)


ROOM_FOR_ALL: Final = 4096 * _MIB
ROOM_FOR_ONE: Final = 7 * _MIB // 2
"""Of the matrices: what `LightJobs` says that they take."""


class LightProbe(HardwareProbe):
    """A PC with room for everything, or for the uppermost matrix alone."""

    def __init__(self, ram_limit_bytes: int = ROOM_FOR_ALL) -> None:
        self._ram_limit_bytes = ram_limit_bytes

    def read(self) -> HardwareProfile:
        """Return the same profile every time."""
        return HardwareProfile(
            cores=2,
            ram_total_bytes=8192 * _MIB,
            ram_limit_bytes=self._ram_limit_bytes,
            ram_limit_source=LimitSource.CONFIG,
            disk_free_bytes=8192 * _MIB,
            aes_instructions=True,
            cpu_capability="simulated",
            agent_version=VERSION,
        )


class LightJobs(JobDesk):
    """Jobs that are prepared at once: no data is read, no model fetched."""

    def __init__(self) -> None:
        self._jobs: dict[Digest, PreparedJob] = {}

    async def prepare(self, plan: JobPlan, digest: Digest) -> JobProfile:
        """Return costs that any PC can bear."""
        profile = JobProfile(
            plan_digest=digest,
            ram_loaded_bytes=_MIB,
            ram_floor_bytes=_MIB,
            ram_per_matrix_bytes=_MIB,
            step_floor_s=1e-6,
            step_per_matrix_s=1e-6,
        )
        self._jobs[digest] = PreparedJob(
            files=JobFiles(plan=plan, digest=digest, folder=Path(), bases=BasisFiles()), profile=profile
        )
        return profile

    def forget(self, digest: Digest) -> None:
        """Drop a job."""
        self._jobs.pop(digest, None)


class LightRounds(RoundDesk):
    """Rounds with a gate before every step."""

    def __init__(self, *, gate: Gate, **parts: Any) -> None:
        """Take `RoundDesk`'s parts."""
        super().__init__(**parts)
        self._gate = gate

    async def train(self, effect: StartTraining) -> None:
        """Make an update up and advertise."""
        await self._gate(Step.TRAIN, effect.assignment.round_number)
        await super().train(effect)

    async def deal_shares(self, effect: DealShares) -> None:
        """Deal shares."""
        await self._gate(Step.SHARE, effect.round.round_number)
        await super().deal_shares(effect)

    async def upload(self, effect: UploadMasked) -> None:
        """Mask and send."""
        await self._gate(Step.UPLOAD, effect.round.round_number)
        await super().upload(effect)

    async def confirm(self, effect: SignSurvivorSet) -> None:
        """Sign the survivors."""
        await self._gate(Step.CONFIRM, effect.round.round_number)
        await super().confirm(effect)

    async def reveal(self, effect: RevealShares) -> None:
        """Reveal."""
        await self._gate(Step.REVEAL, effect.round.round_number)
        await super().reveal(effect)


class LightWatch(HostWatch):
    """A PC that never needs itself."""

    def __init__(self) -> None:
        self.reason = None

    async def run(self) -> None:
        """Look at nothing."""
        await asyncio.Event().wait()


class LightTraining(RoundTraining):
    """Training that is made up."""

    def __init__(self, number: int, on_update: Callable[[int], None]) -> None:
        """Be site `number`; `on_update` hears of each round that an update was made for."""
        self._site_number = number
        self._on_update = on_update

    def check(self, job: PreparedJob, blocks: frozenset[BlockId]) -> None:
        """Accept whatever it is."""

    def run(
        self,
        job: PreparedJob,
        version: Path,  # noqa: ARG002 - the update depends on the version's name alone
        effect: StartTraining,
        folder: RoundFolder,  # noqa: ARG002 - nothing took long enough to be kept
        offer: UnmaskedUpdate | None,
        cancelled: threading.Event,  # noqa: ARG002 - there is nothing to call off
    ) -> UnmaskedUpdate:
        """Make an update up, or offer the last one again."""
        assignment = effect.assignment
        if offer is not None and offer.serves(assignment, effect.index, _SAME_DATA):
            return offer
        trained = assignment.blocks_of(effect.index)
        self._on_update(assignment.round_number)
        return UnmaskedUpdate(
            plan_digest=assignment.plan_digest,
            state_digest=assignment.state_digest,
            trained=trained,
            data_stamp=_SAME_DATA,
            outcome=make_up_update(job.plan, trained, assignment.state_digest, self._site_number),
        )
