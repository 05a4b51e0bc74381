"""Any order, repetition, loss, deadline, clock and restart that Hypothesis thinks of, on one round and its journal.

Sites are honest; the line and the coordinator's machine are not. Whatever happens, each survivor is counted exactly
once, the journal leads a fresh machine to where the last one was, and nothing changes a round that has ended.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, target
from hypothesis import strategies as st
from round_world import ALL_FULL, World, head, sign_roster, site

from coordinator.rounds.effects import Effect, SignRosters
from coordinator.rounds.events import (
    DeadlinePassed,
    Event,
    MessageReceived,
    RostersSigned,
    RoundResumed,
    SiteGone,
    SiteMessage,
    UploadAnnounced,
    UploadArrived,
)
from coordinator.rounds.journal import entry_of, opening_entries, read_journal
from coordinator.rounds.machine import RoundMachine
from coordinator.rounds.states import COLLECTING, RoundState
from coordinator.store.records import RoundEntry
from ravan.errors import IdentityError, ProtocolError, StateError
from ravan.ids import SiteId
from ravan.manifest.documents import SignedDocument
from ravan.manifest.phases import DropReason, RoundOutcome
from ravan.secagg.messages import MaskedHeader

SITES = len(ALL_FULL)
RETURN_S = 75.0
MOST_DEADLINES = 12

Said = MessageReceived | UploadArrived


def standing(machine: RoundMachine) -> dict[str, Any]:
    """Return all that a machine shows of itself."""
    return {
        "state": machine.state,
        "deadline": machine.deadline_at,
        "seconds": dict(machine.phase_seconds),
        "outcome": machine.outcome,
        "absences": machine.absences,
        "awaited": machine.awaited,
        "completed": machine.completed,
        "rosters": machine.rosters,
        "present": [machine.takes_part(site(index)) for index in range(SITES)],
    }


def replay(machine: RoundMachine, events: Sequence[Event]) -> RoundMachine:
    """Lead a machine through events as a coordinator that starts again does, and return it."""
    for event in events:
        for effect in machine.handle(event):
            if isinstance(effect, SignRosters):
                machine.handle(RostersSigned(at=event.at, signed=tuple(map(sign_roster, effect.rosters))))
    return machine


@dataclass
class Unruly(World):
    """A round whose messages lie on the line until an operation delivers them, and whose coordinator may die."""

    line: list[Said] = field(default_factory=list)
    taken: list[Said] = field(default_factory=list)
    entries: list[RoundEntry] = field(default_factory=list)
    restarts: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        document = SignedDocument(payload=b"assignment", signature=bytes(64))
        processes = {site(index): bytes([index]) * 16 for index in range(SITES)}
        self.entries += opening_entries(replace(self.machine.setup, document=document), processes)
        self._kept: set[bytes] = set()

    def feed(self, event: Event) -> tuple[Effect, ...]:
        """Hand an event over and keep it in the journal, the same message once."""
        effects = super().feed(event)
        entry = entry_of(event)
        if entry is not None and not self._is_repeat(event, entry):
            self.entries.append(entry)
        return effects

    def _is_repeat(self, event: Event, entry: RoundEntry) -> bool:
        if not isinstance(event, MessageReceived | UploadArrived):
            return False
        digest = hashlib.sha256(f"{entry.kind} {entry.site} ".encode() + entry.payload).digest()
        known = digest in self._kept
        self._kept.add(digest)
        return known

    # The line

    def say(self, name: SiteId, message: SiteMessage) -> None:
        reference, index = self.reference(name), self.index[name]
        self.line.append(MessageReceived(at=0.0, site=name, reference=reference, index=index, message=message))

    def upload(self, name: SiteId, header: MaskedHeader) -> None:
        self.line.append(UploadArrived(at=0.0, site=name, reference=self.reference(name), header=header))

    def deliver(self, said: Said) -> None:
        """Take a message as it comes now; a refusal is the honest sender's to bear, and never for breaking a rule."""
        before = standing(self.machine)
        try:
            self.feed(_at(said, self.now))
        except StateError:
            assert standing(self.machine) == before
            return
        if isinstance(said, UploadArrived) and said not in self.taken:
            self.agents[said.site].uploaded()
        self.taken.append(said)

    def act(self, name: SiteId) -> None:
        """Let a site answer the next thing that it was told."""
        for position, (told, instruction) in enumerate(self._inbox):
            if told == name:
                del self._inbox[position]
                self.answer(name, instruction)
                return

    # The coordinator

    def restart(self) -> None:
        """Die, and lead a fresh machine to where the last one was."""
        journal = read_journal(self.entries)
        assert journal.processes == {site(index): bytes([index]) * 16 for index in range(SITES)}
        fresh = replay(RoundMachine(self.machine.setup), journal.events)
        assert standing(fresh) == standing(self.machine)
        self.machine = fresh
        self.restarts += 1
        if fresh.state is not RoundState.ENDED:
            self.feed(RoundResumed(at=self.now, until=self.now + RETURN_S))

    def finish_somehow(self) -> None:
        """Deliver everything and let time run out, until the round needs no site any more."""
        for _ in range(MOST_DEADLINES):
            while self._inbox or self.line:
                for index in range(SITES):
                    self.act(site(index))
                while self.line:
                    self.deliver(self.line.pop(0))
            if self.machine.state not in COLLECTING:
                break
            self.pass_deadline()
        assert self.machine.state in (RoundState.UNMASKING, RoundState.ENDED)


def _at(said: Said, now: float) -> Said:
    kept = {name: getattr(said, name) for name in type(said).__dataclass_fields__}
    return type(said)(**{**kept, "at": now})


indices = st.integers(0, SITES - 1)
picks = st.integers(0, 1000)
Operation = tuple[str, int]
operations = st.lists(
    st.one_of(
        st.tuples(st.just("act"), indices),
        st.tuples(st.sampled_from(["deliver", "deliver", "repeat", "answer lost", "come late"]), picks),
        st.tuples(st.just("restart"), st.just(0)),
        st.tuples(st.just("deadline"), st.just(0)),
        st.tuples(st.just("old deadline"), st.integers(0, len(COLLECTING) - 1)),
        st.tuples(st.just("lose"), indices),
        st.tuples(st.just("clock"), st.sampled_from([-3600, -1, 1, 3600])),
    ),
    max_size=60,
)


def perform(world: Unruly, name: str, number: int) -> None:  # noqa: C901 - one line an operation
    """Do one thing to the round."""
    match name:
        case "act":
            world.act(site(number))
        case "deliver" if world.line:
            world.deliver(world.line.pop(number % len(world.line)))
        case "answer lost" if world.line:
            # It was taken, and the site sends it again.
            world.deliver(world.line[number % len(world.line)])
        case "repeat" if world.taken:
            world.deliver(world.taken[number % len(world.taken)])
        case "come late" if world.line:
            world.line.append(world.line.pop(number % len(world.line)))
        case "restart":
            world.restart()
        case "deadline" if world.machine.deadline_at is not None:
            world.pass_deadline()
        case "old deadline" if COLLECTING[number] is not world.machine.state:
            before = standing(world.machine)
            assert world.feed(DeadlinePassed(at=world.now, state=COLLECTING[number])) == ()
            assert standing(world.machine) == before
        case "lose" if world.machine.state is not RoundState.ENDED:
            world.lose(site(number))
        case "clock":
            world.now += number


def check_sums(world: Unruly) -> None:
    """Unmask for real: the sums are the plain sums of those who are counted, each once."""
    combine = world.finish()
    survivors = [world.index[name] for name in world.machine.completed]
    assert len(set(survivors)) == len(survivors) >= 3
    total = combine.summed.total
    for matrix in range(2):
        block = total.blocks[head(matrix)]
        assert block.count == len(survivors)
        assert block.total.tolist() == world.plain_sum(head(matrix), survivors)
    assert total.statistics.examples == sum(10 + index for index in survivors)
    assert world.machine.outcome is RoundOutcome.COMMITTED


def check_end_is_the_end(world: Unruly) -> None:
    """Whatever still comes, nothing of a round that has ended changes, and nobody is told anything."""
    before, told = standing(world.machine), len(world.effects)
    late: list[Event] = [*(_at(said, world.now) for said in world.said + world.taken)]
    late += [
        UploadAnnounced(at=world.now, site=e.site, reference=e.reference, header=e.header)
        for e in world.taken
        if isinstance(e, UploadArrived)
    ]
    late += [SiteGone(at=world.now, site=site(index), reason=DropReason.DISCONNECTED) for index in range(SITES)]
    late += [DeadlinePassed(at=world.now, state=state) for state in RoundState]
    late += [RoundResumed(at=world.now, until=world.now + RETURN_S)]
    for event in late:
        with suppress(StateError, IdentityError):
            assert world.machine.handle(event) == ()
        assert standing(world.machine) == before
    assert len(world.effects) == told


@given(operations)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_happens_each_survivor_is_counted_exactly_once(steps: list[Operation]) -> None:
    world = Unruly()
    world.begin()
    for name, number in steps:
        perform(world, name, number)
        assert all(seconds >= 0 for seconds in world.machine.phase_seconds.values())
    target(float(len(world.taken)))
    world.finish_somehow()
    if world.machine.state is RoundState.UNMASKING:
        world.restart()
        check_sums(world)
    else:
        assert world.machine.outcome is RoundOutcome.TOO_FEW_SITES
        assert world.machine.completed == ()
    check_end_is_the_end(world)


def test_a_round_in_which_everything_is_repeated_late_and_the_coordinator_dies_at_each_step_is_exact() -> None:
    world = Unruly()
    world.begin()
    while world.machine.state is not RoundState.UNMASKING:
        for index in reversed(range(SITES)):
            world.act(site(index))
        while world.line:
            said = world.line.pop()
            for _ in range(3):
                world.deliver(said)
            world.restart()
        for said in list(world.taken):
            world.deliver(said)
    assert world.restarts == SITES * len(COLLECTING)
    check_sums(world)
    assert len(world.machine.completed) == SITES
    check_end_is_the_end(world)


def test_the_checks_see_a_survivor_that_is_counted_twice() -> None:
    world = Unruly()
    world.begin()
    world.finish_somehow()
    world.payloads[0] = world.payloads[1]
    with pytest.raises((AssertionError, ProtocolError)):
        check_sums(world)
