"""A running agent's certificate is renewed and its authority named: nothing that it is doing is dropped."""

from __future__ import annotations

import asyncio
import dataclasses

from agent_world import Round, World
from scripted_headquarters import Attached
from worker_thread import WorkerThread

from edge_agent.app import build_session
from edge_agent.config import load_config
from edge_agent.session.connection import Coordinator
from ravan.manifest.profile import JobProfile


async def test_a_renewal_in_every_phase_of_a_round_drops_nothing(world: World) -> None:
    config = load_config(world.config_path, {"RAVAN_AGENT_THREADS": "1"})
    first = world.identity
    coordinator, stop = Coordinator(first), asyncio.Event()
    session = build_session(config, first, coordinator, WorkerThread(config), None)
    running = asyncio.create_task(session.run(stop))
    attached = await world.hq.hear(Attached)
    world.prepare()
    await world.hq.hear(JobProfile)
    current = Round(world, *world.train(1))
    keys = [first.tls_key]
    for phase in (current.advertise, current.share, current.upload):
        await session.renewals.renew()
        keys.append(world.identity.tls_key)
        await phase()
    await session.renewals.renew()
    again = await world.hq.hear(Attached)
    await current.reveal(await current.confirm())
    stop.set()
    await running
    await coordinator.close()
    assert again.process_id == attached.process_id
    assert len(set(keys)) == 4


async def test_an_authority_that_a_stranger_names_is_refused_and_the_agent_goes_on(world: World) -> None:
    world.hq.pki = dataclasses.replace(world.hq.pki, hand_over="ravan-handover1.AAAA")
    before = world.identity.ca_certificate
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
    assert world.identity.ca_certificate == before
