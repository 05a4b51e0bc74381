"""An agent in a process of its own, what it says, and what it must have trained."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from agent_world import Round, World
from scripted_headquarters import Arrived, Attached, Headquarters, Left

from edge_agent.config import load_config
from edge_agent.data.batches import deal_batches
from edge_agent.data.site_data import read_site_data
from edge_agent.training.lower_part import is_worth_keeping
from edge_agent.training.outcome import TrainingOutcome
from edge_agent.training.trainer import TrainingOrder, train
from ravan.adapters.basis import drawn_bases
from ravan.adapters.state import initial_state
from ravan.codec.secagg_messages import Submission
from ravan.manifest.phases import DropReason
from ravan.manifest.profile import JobProfile
from ravan.secagg.unmask import unmask
from ravan.tasks.batch import Batch
from ravan.tasks.loading import load_task_model

_Heard = TypeVar("_Heard")


@dataclass
class Process:
    """The agent's process, started anew after each kill."""

    world: World
    wrap: Callable[[list[str]], list[str]] = list
    """Makes the command one that runs in a cage."""
    running: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        command = [sys.executable, "-m", "edge_agent", "run", "--config", str(self.world.config_path)]
        command += ["--keep-quantised", str(self.world.kept)]
        environment = os.environ | {"RAVAN_AGENT_THREADS": "1", "RAVAN_AGENT_CHECKPOINT_S": "1"}
        with (self.world.root / "agent.log").open("ab") as log:
            self.running = await asyncio.create_subprocess_exec(
                *self.wrap(command), stdout=log, stderr=log, env=environment
            )

    async def kill(self) -> None:
        assert self.running is not None
        self.running.kill()
        assert await self.running.wait() == -signal.SIGKILL

    async def end(self) -> None:
        if self.running is not None and self.running.returncode is None:
            self.running.terminate()
            await self.running.wait()


@asynccontextmanager
async def process(world: World, wrap: Callable[[list[str]], list[str]] = list) -> AsyncIterator[Process]:
    made = Process(world, wrap)
    try:
        await made.start()
        yield made
    finally:
        await made.end()


class RoundLeftError(Exception):
    """The agent left a round of which it could know nothing."""


@dataclass
class Ear:
    """Hear everything; what comes again must be what came before, byte for byte."""

    hq: Headquarters
    processes: set[bytes] = field(default_factory=set)
    said: dict[object, object] = field(default_factory=dict)
    repeated: int = 0
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the agent has prepared the job."""
    over: set[int] = field(default_factory=set)
    """Rounds that have ended: whoever comes back to one of them leaves it."""
    unnoted: bool = False
    """Whether the agent was killed before it had noted that it takes part in the round."""

    async def hear(self, kind: type[_Heard]) -> _Heard:
        """Wait for the next thing of this kind that is new."""
        while True:
            heard = await self.hq._heard.get()
            if isinstance(heard, Left) and heard.round_number not in self.over:
                assert self.unnoted, heard
                assert heard.reason in {DropReason.RESTARTED, DropReason.REFUSED}
                raise RoundLeftError
            if isinstance(heard, JobProfile):
                self.ready.set()
            if isinstance(heard, Attached):
                self.processes.add(heard.process_id)
            if self._is_new(heard) and isinstance(heard, kind):
                return heard

    def _is_new(self, heard: object) -> bool:
        if isinstance(heard, Submission):
            name: object = heard.round.round_number, type(heard.message)
            content: object = heard
        elif isinstance(heard, Arrived):
            name, content = (heard.header.mask_set_digest, Arrived), heard.header
        else:
            return True
        known = self.said.setdefault(name, content)
        assert content == known
        self.repeated += known is not content
        return known is content


def alone_trained(world: World, current: Round, seed: bytes) -> TrainingOutcome:
    """Train what the round asks for in one go, from the seed that the site has drawn for it."""
    plan, assignment = world.plan, current.assignment
    task = load_task_model(world.job.folder, plan.training)
    data = task.encode(read_site_data(load_config(world.config_path), plan.training).examples)
    # Padding decides about the last bits: where lower layers are kept, all batches have the same.
    keeping = is_worth_keeping(task.model, plan, assignment.blocks_of(0), data.lengths, 1 << 30)
    length = int(data.lengths.max()) if keeping else 0

    def deal(first: int) -> Iterator[Batch]:
        return deal_batches(data, plan.training.batch_size, int.from_bytes(seed, "big"), length=length, first=first)

    order = TrainingOrder(
        plan=plan,
        round_number=assignment.round_number,
        state=initial_state(plan),
        trained=assignment.blocks_of(0),
        bases=drawn_bases(plan.adapter),
        held_examples=len(data),
    )
    torch.set_num_threads(1)
    return train(task, order, deal, on_step=lambda _: None, cancelled=threading.Event())


def clipped(delta: np.ndarray, clip: float) -> np.ndarray:
    flat = delta.astype(np.float64).ravel()
    norm = float(np.linalg.norm(flat))
    return flat * (clip / norm) if norm > clip else flat


async def prepare_again(world: World, ear: Ear) -> None:
    """Do as headquarters do: forget instructions of what is over, have the job prepared again and wait for it."""
    world.hq.withdraw()
    world.prepare()
    await ear.hear(JobProfile)


async def lead(world: World, number: int, ear: Ear, pause_s: float = 0.0) -> None:
    """Lead one round; its sum must hold what training in one go gives, whatever becomes of the agent.

    `pause_s` is between its phases.
    """
    current = Round(world, *world.train(number))
    folder = world.config_path.parent / "state" / "rounds" / f"{current.assignment.run_id.hex()}-{number}"
    await current.advertise()
    seed = bytes.fromhex(json.loads((folder / "round.json").read_bytes())["seed"])
    await asyncio.sleep(pause_s)
    await current.share()
    await asyncio.sleep(pause_s)
    await current.upload()
    await asyncio.sleep(pause_s)
    request = await current.confirm()
    await asyncio.sleep(pause_s)
    job = await current.reveal(request)
    sums = unmask(job, lambda i: io.BytesIO(current.payloads[i].read_bytes())).sums
    ear.over.add(number)
    current.finish()
    await asyncio.sleep(pause_s)
    await prepare_again(world, ear)
    [kept] = [path for path in world.kept.iterdir() if path.stem == current.digest.hex()]
    expected = alone_trained(world, current, seed)
    clips = {spec.block_id: spec.clip for spec in current.assignment.blocks}
    with np.load(kept) as arrays:
        for block, delta in expected.deltas.items():
            assert arrays[f"update.{block.pack():016x}"].tobytes() == clipped(delta, clips[block]).tobytes()
        names = [name for name in arrays.files if name.startswith("bundle.")]
        for name in names:
            own = arrays[name].astype(np.int64)
            others = (sums[int(name.partition(".")[2])].astype(np.int64) - own) % (1 << 24)
            # The stand-ins' updates are zero; what they add are their canaries, which stand where ours do.
            assert (own[others != 0] == 1).all()
            assert others.max() <= 3
        assert "bundle.0" in names
