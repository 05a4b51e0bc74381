"""Leases under any order of taking, renewing, writing and giving back, on a clock that only runs forward."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from coordinator.leases.fenced import check_fence
from coordinator.leases.lease import ROUNDS, Claim, Lease, LeaseLost, give_back, renew, take
from coordinator.store.base import Transaction

TERM_S = 15.0
PROCESSES = ("a", "b", "c")
process = st.sampled_from(PROCESSES)


@dataclass
class Table:
    """As much of a transaction as leases need."""

    time: float = 1000.0
    leases: dict[str, Lease] = field(default_factory=dict)

    def now(self) -> float:
        return self.time

    def get_lease(self, name: str) -> Lease | None:
        return self.leases.get(name)

    def put_lease(self, lease: Lease) -> None:
        self.leases[lease.name] = lease


def claim(name: str) -> Claim:
    return Claim(name=ROUNDS, holder=name, address=f"{name}:8443", term_s=TERM_S)


class Processes(RuleBasedStateMachine):
    """Three processes that each believe what they were told last; who may is kept beside, in three variables."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Table()
        self.believed: dict[str, Lease] = {}
        self.owner: str | None = None
        self.ends = 0.0
        self.takes = 0
        self.written: list[int] = []

    @property
    def transaction(self) -> Transaction:
        return cast("Transaction", cast("Any", self.table))

    def is_owned(self) -> bool:
        return self.owner is not None and self.table.time < self.ends

    @rule(seconds=st.sampled_from((0.0, 1.0, 5.0, TERM_S - 0.001, TERM_S, 100.0)))
    def time_passes(self, seconds: float) -> None:
        self.table.time += seconds

    @rule(name=process, dead=st.booleans())
    def take(self, name: str, dead: bool) -> None:
        taken = take(self.table.get_lease(ROUNDS), claim(name), self.table.time, holder_is_dead=dead)
        assert (taken is None) == (self.is_owned() and not dead)
        if taken is not None:
            self.table.put_lease(taken)
            self.believed[name] = taken
            self.owner, self.ends, self.takes = name, self.table.time + TERM_S, self.takes + 1
            assert taken.fence == self.takes

    @rule(name=process)
    def renew(self, name: str) -> None:
        held = self.believed.get(name)
        if held is None:
            return
        if held.fence != self.takes or self.owner != name:
            with pytest.raises(LeaseLost):
                renew(self.table.get_lease(ROUNDS), held, self.table.time, TERM_S)
            return
        self.table.put_lease(renew(self.table.get_lease(ROUNDS), held, self.table.time, TERM_S))
        self.ends = self.table.time + TERM_S

    @rule(name=process)
    def give_back(self, name: str) -> None:
        held = self.believed.pop(name, None)
        if held is None:
            return
        if held.fence != self.takes or self.owner != name:
            with pytest.raises(LeaseLost):
                give_back(self.table.get_lease(ROUNDS), held, self.table.time)
            return
        self.table.put_lease(give_back(self.table.get_lease(ROUNDS), held, self.table.time))
        self.owner = None

    @rule(name=process)
    def write(self, name: str) -> None:
        held = self.believed.get(name)
        if held is None:
            return
        if held.fence != self.takes or self.owner != name:
            with pytest.raises(LeaseLost, match="does not hold the lease"):
                check_fence(self.transaction, held, TERM_S)
            return
        check_fence(self.transaction, held, TERM_S)
        self.written.append(held.fence)
        # A term that had run out has begun anew: what was written, was written under a live lease.
        if not self.is_owned():
            self.ends = self.table.time + TERM_S
        assert self.table.leases[ROUNDS].is_live(self.table.time)

    @invariant()
    def writes_are_of_one_holder_after_the_other(self) -> None:
        assert self.written == sorted(self.written)

    @invariant()
    def at_most_one_can_write(self) -> None:
        known = self.table.get_lease(ROUNDS)
        able = [
            name for name, held in self.believed.items() if known and (held.fence, name) == (known.fence, known.holder)
        ]
        assert len(able) <= 1

    @invariant()
    def the_table_tells_who_holds_it(self) -> None:
        known = self.table.get_lease(ROUNDS)
        assert (known is not None and known.is_live(self.table.time)) == self.is_owned()


class TestProcesses(Processes.TestCase):  # type: ignore[misc,valid-type] # made at run time
    settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
