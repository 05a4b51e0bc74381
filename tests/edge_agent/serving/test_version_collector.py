"""What a session hears becomes a model on the PC, across restarts, and whatever fails costs nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from kept_jobs import MANIFEST_KEY, digest_of, digest_of_plan, plan_named, signed, version

from edge_agent.serving.collector import VersionCollector
from edge_agent.serving.shelf import ModelShelf
from ravan.clock import SystemClock
from ravan.errors import ErrorReason, TransferError
from ravan.ids import Digest
from ravan.manifest.instructions import JobEnded, Prepare, RoundResult
from ravan.manifest.phases import JobState, RoundOutcome
from ravan.manifest.plan import JobPlan

ORDERS = plan_named("orders")


class Site:
    """A PC whose coordinator has the versions that a test puts into it."""

    def __init__(self, folder: Path) -> None:
        self.shelf = ModelShelf(folder / "models")
        self._blobs = folder / "blobs"
        self._blobs.mkdir()
        self.fetched: list[Digest] = []

    def publish(self, state: bytes) -> Digest:
        (self._blobs / digest_of(state).hex()).write_bytes(state)
        return digest_of(state)

    async def fetch(self, digest: Digest) -> Path:
        self.fetched.append(digest)
        path = self._blobs / digest.hex()
        if not path.exists():
            raise TransferError("There is no such blob.", reason=ErrorReason.BLOB_MISSING)
        return path

    @asynccontextmanager
    async def process(self) -> AsyncIterator[VersionCollector]:
        """Run an agent's collector; on the way out all that it heard was followed."""
        collector = VersionCollector(self.shelf, self.fetch, MANIFEST_KEY, SystemClock())
        running = asyncio.create_task(collector.run())
        yield collector
        async with asyncio.timeout(20):
            await collector.settled()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def prepare(self, collector: VersionCollector, plan: JobPlan = ORDERS) -> None:
        collector.hear(Prepare(plan=signed(plan)))
        await collector.prepared(digest_of_plan(plan))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def committed(digest: Digest, number: int, outcome: RoundOutcome = RoundOutcome.COMMITTED) -> RoundResult:
    return RoundResult(run_id=ORDERS.run_id, round_number=number, outcome=outcome, state_digest=digest, dropped=False)


def ended(digest: Digest = Digest(b""), number: int = 0) -> JobEnded:  # noqa: B008 - bytes
    return JobEnded(job_id=ORDERS.job_id, state=JobState.COMPLETED, state_digest=digest, round_number=number)


async def test_each_committed_round_replaces_the_model(site: Site) -> None:
    async with site.process() as collector:
        await site.prepare(collector)
        for number in (1, 2):
            collector.hear(committed(site.publish(version(ORDERS, number)), number))
    model = site.shelf.find("orders")
    assert (model.round_number, model.read_state()) == (2, version(ORDERS, 2))


async def test_the_end_of_a_job_brings_what_this_pc_missed_also_to_a_new_process(site: Site) -> None:
    async with site.process() as collector:
        await site.prepare(collector)
    async with site.process() as collector:
        collector.hear(ended(site.publish(version(ORDERS, 9)), 9))
    assert site.shelf.find("orders").round_number == 9


async def test_what_is_here_is_not_fetched_again(site: Site) -> None:
    digest = site.publish(version(ORDERS, 3))
    async with site.process() as collector:
        await site.prepare(collector)
        collector.hear(committed(digest, 3))
        collector.hear(ended(digest, 3))
    async with site.process() as collector:
        # A new process is told again what still holds.
        collector.hear(committed(digest, 3))
        collector.hear(ended(digest, 3))
    assert site.fetched == [digest]
    next(iter(site.shelf.find("orders").path.parent.glob("*.safetensors"))).write_bytes(b"damaged")
    async with site.process() as collector:
        collector.hear(ended(digest, 3))
    assert site.shelf.find("orders").read_state() == version(ORDERS, 3)


async def test_jobs_that_were_not_prepared_are_passed_over(site: Site) -> None:
    digest = site.publish(version(ORDERS, 1))
    async with site.process() as collector:
        collector.hear(Prepare(plan=signed(ORDERS)))  # refused, or its data are missing
        collector.hear(committed(digest, 1))
        collector.hear(ended(digest, 1))
    assert site.fetched == []
    assert site.shelf.models() == ()


async def test_rounds_without_a_version_and_jobs_without_one_leave_nothing(site: Site) -> None:
    async with site.process() as collector:
        await site.prepare(collector)
        collector.hear(committed(Digest(b""), 1, RoundOutcome.TOO_FEW_SITES))
        collector.hear(ended())
    assert site.fetched == []
    assert site.shelf.plan_of_job(ORDERS.job_id) is None


async def test_a_version_that_cannot_be_had_or_used_leaves_the_one_before(site: Site) -> None:
    async with site.process() as collector:
        await site.prepare(collector)
        collector.hear(committed(site.publish(version(ORDERS, 1)), 1))
        collector.hear(committed(digest_of(b"nobody has this"), 2))
        collector.hear(committed(site.publish(b"no version of this job"), 3))
    assert len(site.fetched) == 3
    assert site.shelf.find("orders").round_number == 1


async def test_an_error_that_nobody_foresaw_leaves_the_next_version_to_be_kept(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(digest: Digest) -> Path:
        raise ZeroDivisionError

    async with site.process() as collector:
        await site.prepare(collector)
        monkeypatch.setattr(collector, "_fetch", broken)
        collector.hear(committed(site.publish(version(ORDERS, 1)), 1))
        await collector.settled()
        monkeypatch.undo()
        collector.hear(committed(site.publish(version(ORDERS, 2)), 2))
    assert site.shelf.find("orders").round_number == 2


async def test_a_disk_that_takes_nothing_costs_the_model_alone(site: Site, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    async with site.process() as collector:
        await site.prepare(collector)
        collector.hear(committed(site.publish(version(ORDERS, 1)), 1))
    assert site.shelf.models() == ()
