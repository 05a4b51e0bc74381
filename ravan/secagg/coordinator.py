"""The coordinator's side of one round: collects, checks and closes phases, without I/O or secrets.

Deterministic: a coordinator that restarts replays the stored messages into a fresh machine.
"""

from __future__ import annotations

from ravan.ids import Digest
from ravan.manifest.assignment import Assignment
from ravan.manifest.roster import Roster
from ravan.secagg.coordinator_phases import Advertising
from ravan.secagg.coordinator_states import Abort, CoordinatorState, Phase
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
from ravan.secagg.refusals import violation
from ravan.secagg.terms import check_assignment
from ravan.secagg.unmask import UnmaskJob

_Message = KeyAdvertisement | SealedShares | MaskedHeader | SurvivorSignature | RevealedShares


class CoordinatorRound:
    """Lead one round through its phases.

    A member's message is taken or raises RavanError; the identical message again is ignored in any
    phase, a different second one is refused. Each `close_…` returns what the next phase starts from,
    or an Abort when too few answered; after an Abort nothing is taken any more.
    """

    def __init__(self, *, assignment: Assignment, assignment_digest: Digest) -> None:
        """Open Advertise; raise ProtocolError when the assignment breaks a rule of the protocol."""
        check_assignment(assignment)
        self._state: CoordinatorState = Advertising(assignment, assignment_digest)
        self._taken: dict[tuple[type[_Message], int], _Message] = {}

    @property
    def phase(self) -> Phase:
        """Return what is going on."""
        return self._state.phase

    @property
    def missing(self) -> tuple[int, ...]:
        """Return who is still expected to answer in this phase, lost members left out, ascending."""
        return self._state.missing

    @property
    def ready(self) -> bool:
        """Tell whether all who can still answer have, so that the phase may close before its deadline."""
        return not self._state.missing

    @property
    def can_close(self) -> bool:
        """Tell whether closing the phase now would go on rather than abort."""
        return self._state.can_close

    def lost(self, index: int) -> None:
        """Expect nothing more of a member; should it answer before the phase closes, it still counts."""
        self._state.lost(index)

    def advertised(self, index: int, advertisement: KeyAdvertisement) -> None:
        """Take a member's round keys after checking its signature."""
        if not self._is_repeat(index, advertisement):
            self._state.advertised(index, advertisement)
            self._note(index, advertisement)

    def close_advertise(self) -> Roster | Abort:
        """Fix U1: the roster that the caller serialises and signs."""
        self._state, roster = self._state.close_advertise()
        return roster

    def roster_published(self, roster_digest: Digest) -> None:
        """Open Sharing under the digest of the signed roster."""
        self._state = self._state.roster_published(roster_digest)

    def shares(self, index: int, shares: SealedShares) -> None:
        """Take a finisher's sealed shares."""
        if not self._is_repeat(index, shares):
            self._state.shares(index, shares)
            self._note(index, shares)

    def close_sharing(self) -> dict[int, ShareDelivery] | Abort:
        """Fix U2: what each of its members gets."""
        self._state, deliveries = self._state.close_sharing()
        return deliveries

    def verify_upload(self, index: int, header: MaskedHeader) -> None:
        """Check a header before its payload is staged; changes nothing."""
        if not self._is_repeat(index, header):
            self._state.verify_upload(index, header)

    def uploaded(self, index: int, header: MaskedHeader) -> None:
        """Note that a payload is staged whole, with the header's size and hash."""
        if not self._is_repeat(index, header):
            self._state.uploaded(index, header)
            self._note(index, header)

    def close_upload(self) -> SurvivorSet | Abort:
        """Fix U3 and the bundles that it releases."""
        self._state, survivors = self._state.close_upload()
        return survivors

    def survivor_signature(self, index: int, signature: SurvivorSignature) -> None:
        """Take a survivor's signature over the survivor set."""
        if not self._is_repeat(index, signature):
            self._state.survivor_signature(index, signature)
            self._note(index, signature)

    def close_confirmation(self) -> RevealRequest | Abort:
        """Ask all survivors to reveal, under the signatures collected."""
        self._state, request = self._state.close_confirmation()
        return request

    def revealed(self, index: int, shares: RevealedShares) -> None:
        """Take a survivor's revealed shares; t answers are enough to close."""
        if not self._is_repeat(index, shares):
            self._state.revealed(index, shares)
            self._note(index, shares)

    def close_reveal(self) -> UnmaskJob | Abort:
        """Hand over what a worker needs to unmask the staged payloads."""
        self._state, job = self._state.close_reveal()
        return job

    def _is_repeat(self, index: int, message: _Message) -> bool:
        earlier = self._taken.get((type(message), index))
        if earlier is not None and earlier != message:
            raise violation(f"Member {index} sent a second {type(message).__name__} that differs from its first.")
        return earlier is not None

    def _note(self, index: int, message: _Message) -> None:
        self._taken[type(message), index] = message
