"""Rounds that one site holds up in a chosen phase."""

from __future__ import annotations

from plant import Plant

from ravan.ids import JobId, SiteId
from ravan.manifest.instructions import (
    ConfirmSurvivors,
    ExchangeShares,
    Instruction,
    MaskAndUpload,
    Reveal,
    Train,
)
from ravan.manifest.phases import RoundPhase

ANSWERED_IN: dict[type[Instruction], RoundPhase] = {
    Train: RoundPhase.TRAINING,
    ExchangeShares: RoundPhase.SHARING,
    MaskAndUpload: RoundPhase.UPLOADING,
    ConfirmSurvivors: RoundPhase.CONFIRMING,
    Reveal: RoundPhase.REVEALING,
}
SITES = 4
LATE = SiteId("site-0")


async def hold_at(plant: Plant, kind: type[Instruction], *, rounds: int = 1) -> JobId:
    """Bring a job to the phase in which `LATE` alone has not answered."""
    plant.sites[0].mute = {kind}
    await plant.connect_all()
    job_id = await plant.submit(rounds=rounds)
    phase = ANSWERED_IN[kind]
    await plant.until(job_id, lambda detail: detail.awaited == (LATE,) and detail.rounds[-1].phase is phase)
    plant.sites[0].mute = set()
    await plant.until_acknowledged()
    return job_id


async def answer_late(plant: Plant) -> None:
    await plant.sites[0].answer(plant.sites[0].heard[-1])
