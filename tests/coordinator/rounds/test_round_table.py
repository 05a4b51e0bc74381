"""The transition table and the machine agree, and whatever is not in the table is refused."""

from __future__ import annotations

from contextlib import suppress
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from round_world import VERSION, World, sign_roster, site

from coordinator.rounds.effects import SignRosters
from coordinator.rounds.events import (
    DeadlinePassed,
    EvaluationDone,
    Event,
    MessageReceived,
    RostersSigned,
    RoundBegun,
    RoundResumed,
    SiteGone,
    StopRequested,
    UnmaskDone,
    UploadAnnounced,
    UploadArrived,
    WorkFailed,
)
from coordinator.rounds.results import SummedRound
from coordinator.rounds.states import RoundState
from coordinator.rounds.transitions import TRANSITIONS
from ravan.errors import ErrorReason, RavanError, StateError
from ravan.ids import Digest
from ravan.manifest.phases import DropReason, RoundOutcome
from ravan.secagg.combine import RoundSum
from ravan.secagg.messages import MaskedHeader, RevealedShares, SealedShares, SurvivorSignature
from ravan.secagg.statistics import LocalStatistics

EVENTS: tuple[type[Event], ...] = get_args(Event)
HEADER = MaskedHeader(
    index=0, mask_set_digest=Digest(bytes(32)), bundles=(0,), size_bytes=3, sha256=Digest(bytes(32)), signature=b""
)
MESSAGES = (
    SealedShares(ciphertexts={}),
    SurvivorSignature(index=0, signature=b""),
    RevealedShares(survivor_digest=Digest(bytes(32)), shares={}),
)
SUMMED = SummedRound(
    total=RoundSum(
        survivors=(0, 1, 2, 3, 4),
        statistics=LocalStatistics(examples=1, loss_sum=0.0, correct=1),
        scores={},
        blocks={},
        withheld=(),
        untrained=(),
    ),
    sums_digest=Digest(bytes(32)),
    seconds=0.0,
)


def world_in(state: RoundState) -> World:
    world = World()
    if state is RoundState.PLANNED:
        return world
    if state is RoundState.SIGNING:
        world.begin()
        for name, agent in world.agents.items():
            for effect in agent.finish_training():
                advertisement = effect.advertisement  # type: ignore[union-attr]
                world.machine.handle(
                    MessageReceived(
                        at=world.now,
                        site=name,
                        reference=world.reference(name),
                        index=world.index[name],
                        message=advertisement,
                    )
                )
        return world
    if state is RoundState.ENDED:
        world.begin()
        world.feed(StopRequested(at=world.now))
        return world
    world.run_to(state)
    return world


def events_of(world: World, kind: type[Event]) -> list[Event]:
    at, name, reference = world.now, site(0), world.reference(site(0))
    samples: dict[type[Event], list[Event]] = {
        RoundBegun: [RoundBegun(at=at)],
        MessageReceived: [
            MessageReceived(at=at, site=name, reference=reference, index=0, message=message) for message in MESSAGES
        ],
        UploadAnnounced: [UploadAnnounced(at=at, site=name, reference=reference, header=HEADER)],
        UploadArrived: [UploadArrived(at=at, site=name, reference=reference, header=HEADER)],
        SiteGone: [SiteGone(at=at, site=name, reason=reason) for reason in DropReason],
        DeadlinePassed: [DeadlinePassed(at=at, state=state) for state in RoundState],
        RostersSigned: [RostersSigned(at=at, signed=tuple(map(sign_roster, world.machine.rosters)))],
        UnmaskDone: [UnmaskDone(at=at, summed=SUMMED)],
        EvaluationDone: [EvaluationDone(at=at, version=VERSION, refusal=refusal) for refusal in ("", "It is worse.")],
        WorkFailed: [WorkFailed(at=at, outcome=outcome) for outcome in RoundOutcome],
        StopRequested: [StopRequested(at=at)],
        RoundResumed: [RoundResumed(at=at, until=at + 75)],
    }
    return samples[kind]


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("state", RoundState)
def test_every_pair_is_in_the_table_or_refused(state: RoundState, kind: type[Event]) -> None:
    for position in range(len(events_of(World(), kind))):
        world = world_in(state)
        assert world.machine.state is state
        event = events_of(world, kind)[position]
        transition = TRANSITIONS.get((state, kind))
        if transition is None:
            with pytest.raises(StateError) as caught:
                world.machine.handle(event)
            assert caught.value.reason is ErrorReason.WRONG_STATE
            assert world.machine.state is state
            continue
        try:
            world.machine.handle(event)
        except RavanError:
            assert world.machine.state is state
        assert world.machine.state in transition.targets


def test_every_state_but_the_last_can_be_left_and_every_state_is_reached() -> None:
    targets = {target for transition in TRANSITIONS.values() for target in transition.targets}
    assert targets == set(RoundState) - {RoundState.PLANNED}
    for state in set(RoundState) - {RoundState.ENDED}:
        assert any(t.targets - {state} for (source, _), t in TRANSITIONS.items() if source is state)


steps = st.lists(
    st.tuples(st.sampled_from(EVENTS), st.integers(0, 63), st.booleans()),
    max_size=25,
)


@settings(deadline=None, max_examples=60)
@given(steps)
def test_any_course_of_events_stays_within_the_table(course: list[tuple[type[Event], int, bool]]) -> None:
    world = World()
    for kind, choice, honest in course:
        source = world.machine.state
        world.now += 1
        if honest and kind is MessageReceived:
            # Those who were dropped speak up as well, and are refused.
            with suppress(RavanError):
                world.pump()
            continue
        samples = events_of(world, kind)
        try:
            effects = world.feed(samples[choice % len(samples)])
        except RavanError:
            assert world.machine.state is source
            continue
        transition = TRANSITIONS[source, kind]
        signed = any(isinstance(effect, SignRosters) for effect in effects)
        assert world.machine.state in transition.targets or signed
    assert len(world.ends()) == (1 if world.machine.state is RoundState.ENDED else 0)
