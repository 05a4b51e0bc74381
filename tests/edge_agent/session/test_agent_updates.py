"""When a real session offers an update of a round that came to nothing, and when it trains anew."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from agent_world import Round, World, end_before_masking
from structlog.testing import capture_logs
from tiny_jobs import write_rows

from edge_agent.session import connection
from edge_agent.session.line import Line
from ravan.adapters.state import encode_state, initial_state
from ravan.ids import Digest
from ravan.manifest.phases import RoundOutcome
from ravan.manifest.profile import JobProfile


def offers(entries: list[Any]) -> int:
    return sum(entry["event"] == "offers the update of a round that ended before it was masked" for entry in entries)


async def test_an_update_that_was_never_masked_is_offered_in_the_re_run(world: World) -> None:
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        with capture_logs() as entries:
            await end_before_masking(world, 1)
            await end_before_masking(world, 2)
            third = Round(world, *world.train(3))
            await third.run()
        assert offers(entries) == 2
        assert not (world.kept / f"{Digest(bytes(32)).hex()}.npz").exists()
        third.finish(outcome=RoundOutcome.INTERRUPTED)
        # It was masked in round 3: consumed, though that round came to nothing as well.
        with capture_logs() as entries:
            await end_before_masking(world, 4)
        assert offers(entries) == 0


@pytest.mark.parametrize("change", ["version", "blocks", "scored heads", "data"])
async def test_an_update_is_not_offered_where_another_would_be_trained(world: World, change: str) -> None:
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        await end_before_masking(world, 1)
        assignment = world.assignment(2)
        match change:
            case "version":
                state = initial_state(world.plan)
                state = {block: array + np.float32(0.5) for block, array in state.items()}
                digest = world.hq.blobs.put(encode_state(world.plan, state))
                assignment = dataclasses.replace(assignment, state_digest=digest)
            case "blocks":
                own, *others = assignment.members
                own = dataclasses.replace(own, tiles=own.tiles[:-1])
                assignment = dataclasses.replace(assignment, members=(own, *others))
            case "scored heads":
                assignment = world.assignment(2, scored_of=((0,),) * 4)
            case _:
                write_rows(world.root / "rows.csv", (("hose burst", "pump"), ("no start", "engine")) * 5)
        with capture_logs() as entries:
            await end_before_masking(world, 2, assignment)
        assert offers(entries) == 0


async def test_an_upload_has_a_line_of_its_own_that_ends_with_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[NotedLine] = []

    class NotedLine(Line):
        ended = False

        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            opened.append(self)

        async def close(self) -> None:
            await super().close()
            self.ended = True

    monkeypatch.setattr(connection, "Line", NotedLine)
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        await Round(world, *world.train(1)).run()
        assert [line.ended for line in opened] == [False, True]
