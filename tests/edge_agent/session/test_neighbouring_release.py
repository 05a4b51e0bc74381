"""A whole round with a coordinator that knows no more than the last release did."""

from __future__ import annotations

from agent_world import Round, World
from earlier_release import last_release

from ravan.manifest.phases import AgentActivity
from ravan.manifest.profile import JobProfile
from ravan.wire.v1 import site_service_pb2 as wire

_WATCHED = last_release().message("ravan.wire.v1.WatchResponse")


def as_the_last_release_says_it(message: wire.WatchResponse) -> wire.WatchResponse:
    """Return an instruction without what only this release knows."""
    earlier = _WATCHED.FromString(message.SerializeToString())
    earlier.DiscardUnknownFields()
    return wire.WatchResponse.FromString(earlier.SerializeToString())


async def test_a_round_with_a_coordinator_of_the_last_release(world: World) -> None:
    world.hq.garble = as_the_last_release_says_it
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        current = Round(world, *world.train(1))
        await current.run()
        current.finish()
        await world.hq.until(lambda beat: beat.activity is AgentActivity.IDLE)
