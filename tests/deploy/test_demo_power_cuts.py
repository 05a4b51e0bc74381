"""The demo's power cuts: at the phase that was asked for, once each, and the coordinator is switched on again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from deploy.demo.faults import PowerCut, PowerCuts
from deploy.demo.progress import Narrator
from ravan.wire.v1.operator_service_pb2 import Job, Round
from ravan.wire.v1.round_pb2 import RoundPhase

TRAINING, UPLOADING, SHARING = (
    RoundPhase.ROUND_PHASE_TRAINING,
    RoundPhase.ROUND_PHASE_UPLOADING,
    RoundPhase.ROUND_PHASE_SHARING,
)


@dataclass
class SwitchedPlant:
    """Notes what is done to the coordinator."""

    done: list[str] = field(default_factory=list)

    def kill_coordinator(self) -> None:
        self.done.append("kill")

    def start_coordinator(self) -> str:
        self.done.append("start")
        return "http://127.0.0.1"


def watch(*seen: tuple[int, RoundPhase.ValueType]) -> tuple[SwitchedPlant, PowerCuts, list[int]]:
    plant: Any = SwitchedPlant()
    cuts = PowerCuts(
        plant,
        (PowerCut(first_round=2, phase=UPLOADING), PowerCut(first_round=4, phase=TRAINING)),
        Narrator(),
    )
    kills = []
    for number, phase in seen:
        asyncio.run(cuts.observe(Job(rounds=[Round(number=number, phase=phase)]), ()))
        kills.append(plant.done.count("kill"))
    return plant, cuts, kills


def test_each_cut_waits_for_its_round_and_phase_and_happens_once() -> None:
    plant, cuts, kills = watch(
        (1, UPLOADING), (2, TRAINING), (2, UPLOADING), (2, UPLOADING), (3, TRAINING), (4, TRAINING), (5, TRAINING)
    )
    assert kills == [0, 0, 1, 1, 1, 2, 2]
    assert plant.done == ["kill", "start"] * 2
    assert cuts.carried_out == [(2, UPLOADING), (4, TRAINING)]


@pytest.mark.parametrize("phase", [TRAINING, SHARING])
def test_a_missed_moment_is_made_up_for_in_a_later_round(phase: RoundPhase.ValueType) -> None:
    _, cuts, _ = watch((2, phase), (3, UPLOADING))
    assert cuts.carried_out == [(3, UPLOADING)]


def test_nothing_happens_before_the_first_round() -> None:
    plant: Any = SwitchedPlant()
    cuts = PowerCuts(plant, (PowerCut(first_round=1, phase=TRAINING),), Narrator())
    asyncio.run(cuts.observe(Job(), ()))
    assert plant.done == []
