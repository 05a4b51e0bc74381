"""Whom a real session trains with: the sites that it knows, newcomers, and changed keys."""

from __future__ import annotations

import dataclasses
import hashlib

from agent_world import Round, World
from scripted_headquarters import Left
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs
from tiny_jobs import identity_key

from edge_agent.session.acquaintance_file import AcquaintanceFile
from ravan.identity.keys import raw_public
from ravan.ids import SiteId
from ravan.manifest.assignment import Assignment
from ravan.manifest.phases import DropReason
from ravan.manifest.profile import JobProfile


def with_key(assignment: Assignment, index: int, key: bytes) -> Assignment:
    members = list(assignment.members)
    members[index] = dataclasses.replace(members[index], identity_key=key)
    return dataclasses.replace(assignment, members=tuple(members))


async def test_a_site_with_another_key_than_before_is_not_trained_with(world: World) -> None:
    state = world.config_path.parent / "state"
    known, other_key = AcquaintanceFile(state), raw_public(identity_key(9))
    with capture_logs([merge_contextvars]) as logs:
        async with world.agent():
            world.prepare()
            await world.hq.hear(JobProfile)
            await Round(world, *world.train(1)).advertise()
            remembered = known.read()
            assert {each.site: each.identity_key for each in remembered} == {
                SiteId(f"site-{i}"): raw_public(identity_key(i)) for i in (1, 2, 3)
            }
            world.train(2, with_key(world.assignment(2), 2, other_key))
            assert await world.hq.hear(Left) == Left(world.plan.job_id, 2, DropReason.REFUSED)
            assert list(known.read()) == list(remembered)
            assert '": 1' in (state / "rounds.json").read_text()  # round 2 was never taken
            # The running agent reads the file again, so nobody has to start it anew.
            known.forget(SiteId("site-2"))
            await Round(world, *world.train(3, with_key(world.assignment(3), 2, other_key))).trained()
    assert {each.site: each.identity_key for each in known.read()}[SiteId("site-2")] == other_key
    refusals = [line for line in logs if line["log_level"] == "error"]
    assert len(refusals) == 1
    assert "'site-2'" in refusals[0]["event"]
    assert "site forget" in refusals[0]["next_step"]
    assert {line["round"] for line in logs if line["event"] == "training"} == {1, 3}


async def test_newcomers_are_said_once_and_only_by_fingerprint(world: World) -> None:
    with capture_logs() as logs:
        async with world.agent():
            world.prepare()
            await world.hq.hear(JobProfile)
            for number in (1, 2, 3):
                assignment = world.assignment(number)
                if number > 1:
                    late = dataclasses.replace(
                        assignment.members[1], index=4, site=SiteId("late"), identity_key=raw_public(identity_key(7))
                    )
                    assignment = dataclasses.replace(assignment, members=(*assignment.members, late))
                current = Round(world, *world.train(number, assignment))
                await current.trained()
    said = [(line["log_level"], line["event"], line["sites"]) for line in logs if "sites" in line]
    prints = {i: hashlib.sha256(raw_public(identity_key(i))).hexdigest()[:16] for i in (1, 2, 3, 7)}
    assert [level for level, _, _ in said] == ["info", "warning"]
    assert said[0][2] == f"site-1 {prints[1]}, site-2 {prints[2]}, site-3 {prints[3]}"
    assert said[1][1:] == ("new sites in this federation", f"late {prints[7]}")
    assert not any(raw_public(identity_key(i)).hex() in str(logs) for i in prints)


async def test_a_damaged_memory_of_sites_leaves_the_round(world: World) -> None:
    path = world.config_path.parent / "state" / "known_sites.json"
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        path.write_text("{}}")
        world.train(1)
        assert await world.hq.hear(Left) == Left(world.plan.job_id, 1, DropReason.REFUSED)
    assert path.read_text() == "{}}"
