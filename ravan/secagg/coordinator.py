"""The coordinator's side of one round: collects, checks and closes phases, without I/O or secrets.

Training is one phase for all. Its finishers form groups, which then go through the same phases in step,
each under its own roster and thresholds; a group that misses one is given up and the others go on.
Deterministic: a coordinator that restarts replays the stored messages into a fresh machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ravan.ids import Digest
from ravan.manifest.assignment import Assignment
from ravan.manifest.roster import Roster
from ravan.secagg.coordinator_phases import Advertising
from ravan.secagg.coordinator_states import Abort, CoordinatorState, Outcome, Phase
from ravan.secagg.messages import (
    KeyAdvertisement,
    MaskedHeader,
    RevealedShares,
    RevealRequest,
    SealedShares,
    ShareDelivery,
    SurvivorSet,
    SurvivorSignature,
)
from ravan.secagg.refusals import out_of_turn, violation
from ravan.secagg.terms import check_assignment
from ravan.secagg.transcript import data, u16
from ravan.secagg.unmask import UnmaskJob

_Message = KeyAdvertisement | SealedShares | MaskedHeader | SurvivorSignature | RevealedShares
_T = TypeVar("_T")


@dataclass(slots=True)
class _Group:
    """Members that go through the phases together; all of them until the groups are formed."""

    members: frozenset[int]
    state: CoordinatorState


class CoordinatorRound:
    """Lead one round through its phases.

    A member's message is taken or raises RavanError; the identical message again is ignored in any
    phase, a different second one is refused. Each `close_…` returns what the next phase starts from,
    by group or by member, without the groups that too few answered in; an Abort when no group is left,
    after which nothing is taken any more.
    """

    def __init__(self, *, assignment: Assignment, assignment_digest: Digest) -> None:
        """Open Advertise; raise ProtocolError when the assignment breaks a rule of the protocol."""
        check_assignment(assignment)
        everyone = frozenset(member.index for member in assignment.members)
        self._groups = [_Group(everyone, Advertising(assignment, assignment_digest))]
        self._taken: dict[tuple[type[_Message], int], object] = {}
        """What tells each message that was taken from any other."""
        self._ended: Phase | None = None

    @property
    def phase(self) -> Phase:
        """Return what is going on."""
        return self._ended or self._groups[0].state.phase

    @property
    def missing(self) -> tuple[int, ...]:
        """Return who is still expected to answer in this phase, lost members left out, ascending."""
        return tuple(sorted(index for group in self._groups for index in group.state.missing))

    @property
    def members(self) -> frozenset[int]:
        """Return who is in a group that goes on."""
        return frozenset(index for group in self._groups for index in group.members)

    def lost(self, index: int) -> None:
        """Expect nothing more of a member; should it answer before the phase closes, it counts.

        A finisher that is lost before the rosters are fixed is left out of them.
        """
        for group in self._groups:
            group.state.lost(index)

    def give_up_hopeless(self) -> Abort | None:
        """Drop the groups that can no longer get the answers that they need; return an Abort when none is left."""
        shortages = [(group, group.state.shortage) for group in self._groups]
        aborts = [shortage for _, shortage in shortages if shortage is not None]
        return self._go_on_with([group for group, shortage in shortages if shortage is None], *aborts)

    def advertised(self, index: int, advertisement: KeyAdvertisement) -> None:
        """Take a member's round keys after checking its signature."""
        if not self._is_repeat(index, advertisement):
            self._state_of(index).advertised(index, advertisement)
            self._note(index, advertisement)

    def close_advertise(self) -> tuple[Roster, ...] | Abort:
        """Fix U1 and its groups: the rosters that the caller serialises and signs."""
        self._check_running("close of advertising")
        groups = self._groups[0].state.close_advertise()
        if isinstance(groups, Abort):
            self._go_on_with([], groups)
            return groups
        self._groups = [_Group(frozenset(e.index for e in roster.entries), state) for state, roster in groups]
        return tuple(roster for _, roster in groups)

    def rosters_published(self, digests: Sequence[Digest]) -> None:
        """Open Sharing under the digests of the signed rosters, in the order of `close_advertise`."""
        self._check_running("published rosters")
        states = [group.state.roster_published(digest) for group, digest in zip(self._groups, digests, strict=True)]
        for group, state in zip(self._groups, states, strict=True):
            group.state = state

    def shares(self, index: int, shares: SealedShares) -> None:
        """Take a finisher's sealed shares."""
        if not self._is_repeat(index, shares):
            self._state_of(index).shares(index, shares)
            self._note(index, shares)

    def close_sharing(self) -> dict[int, ShareDelivery] | Abort:
        """Fix U2: what each of its members gets."""
        closed = self._close(lambda state: state.close_sharing())
        return closed if isinstance(closed, Abort) else {i: d for _, parts in closed for i, d in parts.items()}

    def verify_upload(self, index: int, header: MaskedHeader) -> None:
        """Check a header before its payload is staged; changes nothing."""
        if not self._is_repeat(index, header):
            self._state_of(index).verify_upload(index, header)

    def uploaded(self, index: int, header: MaskedHeader) -> None:
        """Note that a payload is staged whole, with the header's size and hash."""
        if not self._is_repeat(index, header):
            self._state_of(index).uploaded(index, header)
            self._note(index, header)

    def close_upload(self) -> dict[int, SurvivorSet] | Abort:
        """Fix U3 and the bundles that it releases: what each survivor is asked to sign."""
        return _by_survivor(self._close(lambda state: state.close_upload()), lambda chosen: chosen.survivors)

    def survivor_signature(self, index: int, signature: SurvivorSignature) -> None:
        """Take a survivor's signature over the survivor set."""
        if not self._is_repeat(index, signature):
            self._state_of(index).survivor_signature(index, signature)
            self._note(index, signature)

    def close_confirmation(self) -> dict[int, RevealRequest] | Abort:
        """Ask each survivor to reveal, under the signatures collected."""
        closed = self._close(lambda state: state.close_confirmation())
        return _by_survivor(closed, lambda request: request.survivor_set.survivors)

    def revealed(self, index: int, shares: RevealedShares) -> None:
        """Take a survivor's revealed shares; t answers of a group are enough to close."""
        if not self._is_repeat(index, shares):
            self._state_of(index).revealed(index, shares)
            self._note(index, shares)

    def close_reveal(self) -> tuple[UnmaskJob, ...] | Abort:
        """Hand over what a worker needs to unmask the staged payloads, group by group."""
        closed = self._close(lambda state: state.close_reveal())
        return closed if isinstance(closed, Abort) else tuple(job for _, job in closed)

    def _close(self, close: Callable[[CoordinatorState], Outcome[_T]]) -> list[tuple[_Group, _T]] | Abort:
        """Close the phase in every group, keep those that can go on, and return what they start from."""
        self._check_running("close")
        closed = [(group, *close(group.state)) for group in self._groups]
        going_on, aborts = [], []
        for group, state, outcome in closed:
            group.state = state
            if isinstance(outcome, Abort):
                aborts.append(outcome)
            else:
                going_on.append((group, outcome))
        return self._go_on_with([group for group, _ in going_on], *aborts) or going_on

    def _go_on_with(self, groups: list[_Group], *aborts: Abort) -> Abort | None:
        self._groups = groups
        if groups:
            return None
        self._ended = Phase.ABORTED
        return aborts[0]

    def _state_of(self, index: int) -> CoordinatorState:
        for group in self._groups:
            if index in group.members:
                return group.state
        self._check_running("a message")
        raise violation(f"Member {index} has no part in phase {self.phase} of this round.")

    def _check_running(self, what: str) -> None:
        if not self._groups:
            raise out_of_turn(self.phase, what)

    def _is_repeat(self, index: int, message: _Message) -> bool:
        earlier = self._taken.get((type(message), index))
        if earlier is not None and earlier != _mark(message):
            raise violation(f"Member {index} sent a second {type(message).__name__} that differs from its first.")
        return earlier is not None

    def _note(self, index: int, message: _Message) -> None:
        self._taken[type(message), index] = _mark(message)


def _mark(message: _Message) -> object:
    """Return what tells a message from others; sealed shares, the square of the members, are not kept for it."""
    if not isinstance(message, SealedShares):
        return message
    shares = (u16(receiver) + data(ciphertext) for receiver, ciphertext in sorted(message.ciphertexts.items()))
    return hashlib.sha256(b"".join(shares)).digest()


def _by_survivor(
    closed: list[tuple[_Group, _T]] | Abort, survivors: Callable[[_T], Iterable[int]]
) -> dict[int, _T] | Abort:
    return closed if isinstance(closed, Abort) else {i: part for _, part in closed for i in survivors(part)}
