"""A real session against a played coordinator over mutual TLS: preparing, a whole round, and its ends."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from unittest.mock import ANY

import numpy as np
from agent_world import Round, World, end_before_masking
from scripted_headquarters import Attached, Left
from tiny_jobs import identity_key, tiny_job

from edge_agent.audit.report import Departure, read_audit
from ravan.codec.documents import encode_plan, sign_document
from ravan.errors import ErrorReason, StateError
from ravan.ids import RunId
from ravan.manifest.documents import DocumentKind
from ravan.manifest.instructions import (
    JobEnded,
    Prepare,
)
from ravan.manifest.phases import AgentActivity, DropReason, JobState
from ravan.manifest.profile import HardwareProfile, JobProfile
from ravan.secagg.unmask import unmask


async def test_two_whole_rounds(world: World) -> None:
    state_dir = world.config_path.parent / "state"
    async with world.agent():
        attached = await world.hq.hear(Attached)
        assert attached.after_sequence == 0
        hardware = await world.hq.hear(HardwareProfile)
        assert hardware.ram_limit_bytes <= hardware.ram_total_bytes
        world.prepare()
        profile = await world.hq.hear(JobProfile)
        assert profile.plan_digest == world.plan_digest
        for number in (1, 2):
            current = Round(world, *world.train(number))
            job = await current.run()
            # The stand-ins sent zeros, so the sum is what this site quantised.
            sums = unmask(job, lambda i, paths=current.payloads: io.BytesIO(paths[i].read_bytes())).sums  # type: ignore[misc]
            with np.load(world.kept / f"{current.digest.hex()}.npz") as kept:
                own = kept["bundle.0"].astype(np.int64)
                heads = kept[f"update.{current.assignment.tiles[0].blocks[0].pack():016x}"]
                names = {name for name in kept.files if name.startswith("update.")}
            canaries = np.zeros(len(own), np.int64)
            canaries[own == 1] = 3  # the others' canaries stand where ours do; nothing else of theirs is not zero
            differing = np.flatnonzero((own + canaries - sums[0].astype(np.int64)) % (1 << 24))
            assert all(own[i] == 1 for i in differing)
            assert heads.any()
            assert names == {f"update.{block.pack():016x}" for block in current.assignment.blocks_of(0)}
            current.finish()
            assert read_audit(state_dir).departures[-1] == Departure(
                time=ANY,
                job=world.plan.job_id,
                run=current.assignment.run_id.hex(),
                round=number,
                assignment=current.digest.hex(),
                sha256=hashlib.sha256(current.payloads[0].read_bytes()).hexdigest(),
                bytes=current.payloads[0].stat().st_size,
                complete=True,
                survivors=tuple(member.site for member in current.assignment.members),
            )
        await world.hq.until(lambda beat: beat.activity is AgentActivity.IDLE)
        training = [beat for beat in world.hq.heartbeats if beat.activity is AgentActivity.TRAINING]
        assert {beat.round_number for beat in training} <= {1, 2}
        assert world.hq.heartbeats[-1].step_cpu_s > 0
        assert world.hq.heartbeats[-1].peak_rss_bytes >= world.hq.heartbeats[-1].rss_bytes > 0
    assert not (state_dir / "rounds").exists()
    first, second = read_audit(state_dir).departures
    assert (first.round, first.complete, first.outcome) == (1, True, "committed")
    assert (second.round, second.complete) == (2, True)


async def test_an_agent_that_starts_again_leaves_the_round_and_joins_the_next(world: World) -> None:
    async with world.agent():
        world.prepare()
        measured = await world.hq.hear(JobProfile)
        current = Round(world, *world.train(1))
        await current.advertise()
    left = await world.hq.hear(Left)
    assert left == Left(world.plan.job_id, 1, DropReason.LEFT)
    async with world.agent():
        # The stream begins anew: Prepare, and round 1 of the earlier process.
        left = await world.hq.hear(Left)
        assert (left.round_number, left.reason) == (1, DropReason.RESTARTED)
        # Not measured again: the very same figures.
        assert await world.hq.hear(JobProfile) == measured
        second = Round(world, *world.train(2))
        await second.advertise()


async def test_a_plan_under_another_key_is_ignored(world: World) -> None:
    payload = encode_plan(world.plan)
    async with world.agent():
        await world.hq.hear(Attached)
        world.hq.tell(Prepare(plan=sign_document(DocumentKind.PLAN, payload, identity_key(5))))
        world.prepare()
        # The first thing that the agent says about jobs is the answer to the good one.
        assert (await world.hq.hear(JobProfile)).plan_digest == world.plan_digest
    assert world.hq._heard.empty()


async def test_what_the_coordinator_refuses_ends_the_round_here(world: World) -> None:
    world.hq.refuse = lambda _: StateError("Too late.", reason=ErrorReason.WRONG_STATE)
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        world.train(1)
        left = await world.hq.hear(Left)
        assert (left.round_number, left.reason) == (1, DropReason.PROTOCOL)


async def test_a_coordinator_that_was_put_back_to_a_backup_finds_the_site_ready_for_its_new_run(world: World) -> None:
    async with world.agent():
        await world.hq.hear(Attached)
        world.prepare()
        await world.hq.hear(JobProfile)
        await end_before_masking(world, 1)
        before = Round(world, *world.train(2))
        await before.advertise()
        await before.share()
        await before.upload()

        world.hq.restore()
        assert (await world.hq.hear(Attached)).after_sequence > 0
        assert (await world.hq.hear(Attached)).after_sequence == 0
        plan = dataclasses.replace(world.plan, run_id=RunId(b"r" * 16))
        world.job = dataclasses.replace(world.job, plan=plan)
        world.prepare()
        assert (await world.hq.hear(JobProfile)).plan_digest == world.plan_digest
        after = Round(world, *world.train(1))
        await after.run()
        after.finish()
        await world.hq.until(lambda beat: beat.activity is AgentActivity.IDLE)
    ledger = json.loads((world.config_path.parent / "state" / "rounds.json").read_text())
    assert ledger == {before.assignment.run_id.hex(): 2, plan.run_id.hex(): 1}
    assert not (world.config_path.parent / "state" / "rounds").exists()


async def test_the_end_of_the_job_calls_training_off(world: World) -> None:
    world.job = tiny_job(world.root / "long", steps=1_000_000)
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        world.train(1)
        await world.hq.until(lambda beat: beat.activity is AgentActivity.TRAINING and beat.done > 0)
        world.hq.tell(JobEnded(job_id=world.plan.job_id, state=JobState.STOPPED))
        await world.hq.until(lambda beat: beat.activity is AgentActivity.IDLE)
    assert world.hq._heard.empty()


async def test_a_round_that_cannot_be_noted_on_disk_is_left_untrained(world: World) -> None:
    ledger = world.config_path.parent / "state" / "rounds.json"
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        ledger.mkdir()  # nothing can be written in its place
        world.train(1)
        assert (await world.hq.hear(Left)).round_number == 1
        ledger.rmdir()
        assignment, digest = world.train(2)
        await Round(world, assignment, digest).advertise()
    assert '"' + assignment.run_id.hex() + '": 2' in ledger.read_text()
