"""A job from the first token to the last version: rounds with drop-outs, crashes of the coordinator, and the proof."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ravan.codec import enums
from ravan.manifest.phases import RoundOutcome, RoundPhase
from ravan.wire.v1.operator_service_pb2 import Job, Round
from simulation.faults import DropOuts
from simulation.fleet import Fleet
from simulation.job import Order
from simulation.proof import CountedRound
from simulation.scene import Scene, set_scene
from simulation.steps import UNCOUNTED, Step

CRASH_IN: Final = (RoundPhase.UPLOADING, RoundPhase.REVEALING, RoundPhase.SHARING, RoundPhase.TRAINING)
"""Phases in which one crash after the other happens."""

READY_SHARE: Final = 0.8
"""Share of the fleet with which a round may begin: who lost power may not be back yet."""

WITHIN_S: Final = 3600.0
"""Longest wait for a round."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What shall happen."""

    sites: int
    rounds: int
    crashes: int = 0
    drop_out: float = 0.0
    processes: int = 2
    seed: int = 0

    @property
    def crash_in(self) -> Mapping[int, RoundPhase]:
        """Return in which phase of which round the coordinator is killed."""
        numbers = [1 + (i + 1) * self.rounds // (self.crashes + 1) for i in range(self.crashes)]
        return {min(number, self.rounds): CRASH_IN[i % len(CRASH_IN)] for i, number in enumerate(numbers)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundStory:
    """What became of one round."""

    number: int
    outcome: RoundOutcome
    selected: frozenset[str]
    completed: frozenset[str]
    """As the coordinator's record says."""
    counted: frozenset[str]
    """As the version shows, each exactly once."""
    faults: tuple[str, ...]
    cut: Mapping[str, Step]
    """Who lost power, and before which step."""

    @property
    def lost(self) -> frozenset[str]:
        """Return whose update is in no version although the site did all that it was asked."""
        return self.selected - self.counted - {site for site, step in self.cut.items() if step in UNCOUNTED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What happened."""

    rounds: tuple[RoundStory, ...]
    crashes: int
    restarts_s: tuple[float, ...]
    """From each start of the coordinator until it was ready."""
    peak_rss_mb: float
    """Highest of all processes of the coordinator."""
    disk_mb: float


async def run_course(folder: Path, course: Course, say: Say = print) -> Story:
    """Let it happen under `folder` and return what the versions prove."""
    drop_outs = DropOuts(rate=course.drop_out, seed=course.seed)
    order = Order(
        rounds=course.rounds, minimum_sites=max(3, int(READY_SHARE * course.sites)), phase_deadline_s=WITHIN_S
    )
    # Hundreds of agents on a few cores are late with signs of life; who loses power comes back as another process.
    settings = {"FLEET_HEARTBEAT_INTERVAL_S": 30, "FLEET_SILENCE_S": 300, "LOG_LEVEL": "warning"}
    async with set_scene(
        folder, course.sites, order, processes=course.processes, drop_outs=drop_outs, settings=settings
    ) as scene:
        say(f"{course.sites} agents are enrolled")
        scene.fleet.start()
        peaks, restarts = [], []
        for number, phase in course.crash_in.items():
            await _until_in(scene, number, phase, say)
            peaks.append(scene.headquarters.peak_rss_mb())
            await scene.headquarters.kill()
            restarts.append(await scene.headquarters.start())
            say(f"killed in round {number} while {phase}; ready again after {restarts[-1]:.1f} s")
        await _until_in(scene, course.rounds, RoundPhase.ENDED, say)
        job = await scene.until_completed(within_s=WITHIN_S)
        peaks.append(scene.headquarters.peak_rss_mb())
        counted = await scene.count(job)
        disk_mb = scene.headquarters.disk_mb()
        return Story(
            rounds=tuple(tell_rounds(job, counted, scene.fleet)),
            crashes=len(restarts),
            restarts_s=tuple(restarts),
            peak_rss_mb=max(peaks),
            disk_mb=disk_mb,
        )


async def _until_in(scene: Scene, number: int, phase: RoundPhase, say: Say) -> None:
    """Wait for a phase of a round, telling of each round before it."""
    done = scene.book.standing(scene.job_id).round_number
    for earlier in range(done, number):
        await _until_begun(scene, earlier + 1)
        say(f"round {earlier + 1} has begun")
    await scene.book.until(scene.job_id, lambda now: now.round_number > number or now.phase is phase, within_s=WITHIN_S)


async def _until_begun(scene: Scene, number: int) -> None:
    await scene.book.until(scene.job_id, lambda now: now.round_number >= number, within_s=WITHIN_S)


def tell_rounds(job: Job, counted: list[CountedRound], fleet: Fleet) -> list[RoundStory]:
    """Put together what the records, the versions and the agents say of each round."""
    shown = {each.number: each for each in counted}
    return [_tell(each, shown.get(int(each.number)), fleet) for each in job.rounds]


def _tell(done: Round, shown: CountedRound | None, fleet: Fleet) -> RoundStory:
    return RoundStory(
        number=int(done.number),
        outcome=enums.ROUND_OUTCOME.from_wire(done.outcome),
        selected=frozenset(done.selected),
        completed=frozenset(done.completed),
        counted=frozenset() if shown is None else shown.counted,
        faults=() if shown is None else shown.faults,
        cut=fleet.cut_in(int(done.number)),
    )
