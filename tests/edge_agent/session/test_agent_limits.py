"""What a real session does with its memory: within its limit, beyond it, and with what is left."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import pytest
from agent_world import Round, World
from scripted_headquarters import Left
from tiny_jobs import tiny_job

from edge_agent.hardware.limits import LimitReader, MemoryLimit
from edge_agent.session import round_training
from edge_agent.training import trainer
from edge_agent.training.outcome import TrainingOutcome
from edge_agent.training.trainer import TrainingOrder, train
from ravan.ids import BlockId
from ravan.manifest.phases import DropReason
from ravan.manifest.plan import Denominator
from ravan.manifest.profile import HardwareProfile, JobProfile, LimitSource
from ravan.secagg.combine import decode_sums
from ravan.secagg.unmask import unmask
from ravan.tasks.task_model import TaskModel


async def test_heads_are_scored_where_the_assignment_asks_for_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[frozenset[BlockId]] = []
    monkeypatch.setattr(round_training, "check_memory", lambda *given: checked.append(given[2]))
    scored_of = ((0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3), (0,))
    assignment = world.assignment(scored_of=scored_of)
    own, *others = assignment.members
    assignment = dataclasses.replace(assignment, members=(dataclasses.replace(own, tiles=(0,)), *others))
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        current = Round(world, *world.train(1, assignment))
        job = await current.run()
        sums = unmask(job, lambda i: io.BytesIO(current.payloads[i].read_bytes()))
        # The others sent zeros.
        scores = decode_sums(assignment, [sums], Denominator.TRAINERS).scores
        current.finish()
    assert scores.keys() == set(world.plan.head_ids())
    assert max(score.total for score in scores.values()) == 65535
    assert sum(score.total > 0 for score in scores.values()) > 4
    assert {block.matrix: scores[block].count for block in scores} == {0: 3, 1: 3, 2: 3, 3: 4}
    # Memory is what scoring takes as well: all four matrices, though the uppermost alone is trained.
    assert checked == [frozenset((*world.plan.dense_ids(), *world.plan.head_ids()))]


@pytest.mark.parametrize(("tiles", "keeps"), [((0,), True), ((0, 1, 2, 3), False)])
async def test_room_beside_the_training_goes_to_the_outputs_of_lower_layers_where_there_are_any(
    world: World, monkeypatch: pytest.MonkeyPatch, tiles: tuple[int, ...], *, keeps: bool
) -> None:
    orders: list[TrainingOrder] = []

    def note(task: TaskModel[Any], order: TrainingOrder, *rest: Any, **more: Any) -> TrainingOutcome:
        orders.append(order)
        return train(task, order, *rest, **more)

    monkeypatch.setattr(trainer, "train", note)
    # Ten passes over the site's sixteen rows: enough for keeping to save time.
    world.job = tiny_job(world.root / "long", steps=40)
    assignment = world.assignment()
    own, *others = assignment.members
    assignment = dataclasses.replace(assignment, members=(dataclasses.replace(own, tiles=tiles), *others))
    async with world.agent():
        hardware = await world.hq.hear(HardwareProfile)
        world.prepare()
        await world.hq.hear(JobProfile)
        current = Round(world, *world.train(1, assignment))
        await current.run()
        current.finish()
    (order,) = orders
    assert 0 <= order.room_bytes < hardware.ram_limit_bytes
    assert (order.room_bytes > 0) is keeps


async def test_a_limit_below_what_training_takes_leaves_the_round(world: World) -> None:
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
    async with world.agent({"RAVAN_AGENT_RAM_LIMIT_MB": "8"}):
        hardware = await world.hq.hear(HardwareProfile)
        while hardware.ram_limit_source is not LimitSource.CONFIG:
            hardware = await world.hq.hear(HardwareProfile)
        assert hardware.ram_limit_bytes == 8 << 20
        assert (await world.hq.hear(Left)).reason is DropReason.MEMORY


async def test_a_limit_that_fell_between_rounds_is_reported_before_the_round_is_left(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        with monkeypatch.context() as tight:
            fallen = MemoryLimit(limit_bytes=8 << 20, source=LimitSource.CGROUP)
            tight.setattr(LimitReader, "read", lambda _: fallen)
            world.train(1)
            while (await world.hq.hear(HardwareProfile)).ram_limit_bytes != 8 << 20:
                pass
            assert await world.hq.hear(Left) == Left(world.plan.job_id, 1, DropReason.MEMORY)
        await Round(world, *world.train(2)).trained()


async def test_training_that_outgrows_its_limit_is_given_up_and_costs_more_from_then_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.agent():
        world.prepare()
        measured = await world.hq.hear(JobProfile)
        with monkeypatch.context() as crowded:
            crowded.setattr("edge_agent.training.trainer.PeakMeter.peak_bytes", lambda _: 1 << 50)
            world.train(1)
            corrected = await world.hq.hear(JobProfile)
            assert await world.hq.hear(Left) == Left(world.plan.job_id, 1, DropReason.MEMORY)
        assert corrected.ram_loaded_bytes == measured.ram_loaded_bytes
        assert corrected.peak_bytes(4) > 1 << 49
    async with world.agent():
        # A new process knows it too.
        world.prepare()
        assert await world.hq.hear(JobProfile) == corrected
