"""A site that comes back after many rounds: what it is told, and what it may fetch."""

from __future__ import annotations

from pathlib import Path

from plant import Plant, digest_of

from ravan.manifest.instructions import Prepare, Train
from ravan.manifest.phases import JobState


async def test_it_is_told_of_the_round_that_runs_and_of_none_that_it_missed(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        traveller = plant.sites[3]
        await plant.connect_all()
        waiter = plant.sites[0]
        waiter.idle_in = 2
        job_id = await plant.submit(rounds=8)
        await plant.until(job_id, lambda detail: detail.awaited == (waiter.name,))
        await plant.until_acknowledged()
        await traveller.disconnect()
        await plant.conductor.site_lost(traveller.name)
        # It misses the rounds from here to the seventh, which waits for another.
        waiter.idle_in = 7
        await waiter.answer(waiter.heard[-1])
        await plant.until(job_id, lambda detail: len(detail.rounds) == 7 and detail.awaited == (waiter.name,))
        before = len(traveller.heard)
        await traveller.restart()
        await plant.until(job_id, lambda detail: traveller.name in detail.ready_sites)
        told = traveller.heard[before:]
        assert [type(each) for each in told] == [Prepare]
        # Of all versions it may fetch the newest alone.
        served = [await plant.conductor.may_download(digest_of(f"version {number}")) for number in range(8)]
        assert served == [False] * 6 + [True, False]
        await waiter.answer(waiter.heard[-1])
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED)
        assert traveller.name in detail.rounds[7].completed
        assert traveller.assignment.state_digest == digest_of("version 7")
        trained = [traveller.open(each)[0].round_number for each in traveller.heard if isinstance(each, Train)]
        assert trained == [1, 2, 8]
