"""What all phases of the coordinator's machine have in common: collecting, and refusing by default."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Generic, NoReturn, TypeVar

from ravan.ids import Digest
from ravan.manifest.roster import Roster
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
from ravan.secagg.unmask import UnmaskJob

T = TypeVar("T")


class Phase(StrEnum):
    """What the coordinator of a round is waiting for."""

    ADVERTISE = "ADVERTISE"
    """Round keys of those who finished training."""
    PUBLISH = "PUBLISH"
    """The signature of the roster."""
    SHARING = "SHARING"
    """Sealed shares."""
    UPLOAD = "UPLOAD"
    """Masked vectors."""
    CONFIRMATION = "CONFIRMATION"
    """Signatures over the survivor set."""
    REVEAL = "REVEAL"
    """Shares for unmasking."""
    UNMASK = "UNMASK"
    """The worker; the machine's part is done."""
    ABORTED = "ABORTED"
    """Nothing more; no secret was or will be revealed."""


class AbortReason(StrEnum):
    """Which rule a phase missed."""

    BELOW_SHAMIR_THRESHOLD = "BELOW_SHAMIR_THRESHOLD"
    """Fewer than t answered."""
    BELOW_COHORT = "BELOW_COHORT"
    """Fewer than t_B answered, so that no bundle could be released."""
    NO_BUNDLE = "NO_BUNDLE"
    """Each bundle misses its threshold, or one of a cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Abort:
    """Why a round ends without a sum."""

    phase: Phase
    reason: AbortReason
    answered: int
    needed: int

    def __str__(self) -> str:
        if self.reason is AbortReason.NO_BUNDLE:
            return f"No bundle has enough of the {self.answered} sites that answered in phase {self.phase}."
        return f"Only {self.answered} sites answered, or still can, in phase {self.phase}; {self.needed} must."


class CoordinatorState:
    """Expect nobody and refuse every input."""

    phase: ClassVar[Phase]

    @property
    def missing(self) -> tuple[int, ...]:
        """Return nobody."""
        return ()

    @property
    def shortage(self) -> Abort | None:
        """Return None: nothing is awaited that could fail to come."""
        return None

    def lost(self, index: int) -> None:
        """Ignore: nobody is expected."""

    def advertised(self, index: int, advertisement: KeyAdvertisement) -> None:  # noqa: ARG002 - default-deny
        """Refuse."""
        self._refuse("round keys")

    def close_advertise(self) -> tuple[tuple[CoordinatorState, Roster], ...] | Abort:
        """Refuse."""
        self._refuse("close of advertising")

    def roster_published(self, roster_digest: Digest) -> CoordinatorState:  # noqa: ARG002 - default-deny
        """Refuse."""
        self._refuse("published roster")

    def shares(self, index: int, shares: SealedShares) -> None:  # noqa: ARG002 - default-deny
        """Refuse."""
        self._refuse("sealed shares")

    def close_sharing(self) -> Outcome[dict[int, ShareDelivery]]:
        """Refuse."""
        self._refuse("close of sharing")

    def verify_upload(self, index: int, header: MaskedHeader) -> None:  # noqa: ARG002 - default-deny
        """Refuse."""
        self._refuse("masked vector")

    def uploaded(self, index: int, header: MaskedHeader) -> None:  # noqa: ARG002 - default-deny
        """Refuse."""
        self._refuse("masked vector")

    def close_upload(self) -> Outcome[SurvivorSet]:
        """Refuse."""
        self._refuse("close of upload")

    def survivor_signature(self, index: int, signature: SurvivorSignature) -> None:  # noqa: ARG002 - default-deny
        """Refuse."""
        self._refuse("survivor signature")

    def close_confirmation(self) -> Outcome[RevealRequest]:
        """Refuse."""
        self._refuse("close of confirmation")

    def revealed(self, index: int, shares: RevealedShares) -> None:  # noqa: ARG002 - default-deny
        """Refuse."""
        self._refuse("revealed shares")

    def close_reveal(self) -> Outcome[UnmaskJob]:
        """Refuse."""
        self._refuse("close of reveal")

    def _refuse(self, message: str) -> NoReturn:
        raise out_of_turn(self.phase, message)


Outcome = tuple[CoordinatorState, T | Abort]


class Aborted(CoordinatorState):
    """The round ended without a sum."""

    phase = Phase.ABORTED


class Unmasking(CoordinatorState):
    """A worker computes the sum."""

    phase = Phase.UNMASK


class Collecting(CoordinatorState, Generic[T]):
    """Collect one answer of each expected member until closed."""

    def __init__(self, expected: tuple[int, ...], *, threshold: int, cohort: int = 0) -> None:
        """Expect `expected`, ascending; `threshold` and `cohort` answers are needed to go on."""
        self.answers: dict[int, T] = {}
        self._expected = expected
        self._lost: set[int] = set()
        self._threshold = threshold
        self._cohort = cohort

    @property
    def missing(self) -> tuple[int, ...]:
        """Return who has not answered and is not lost."""
        return tuple(i for i in self._expected if i not in self.answers and i not in self._lost)

    @property
    def shortage(self) -> Abort | None:
        """Return why the phase cannot get the answers that it needs any more, or None."""
        return self.shortfall((*self.answered, *self.missing))

    def lost(self, index: int) -> None:
        """Stop waiting for a member."""
        self._lost.add(index)

    @property
    def answered(self) -> tuple[int, ...]:
        """Return who answered, ascending."""
        return tuple(i for i in self._expected if i in self.answers)

    def check_expected(self, index: int) -> None:
        """Raise ProtocolError for a member that has no part in this phase."""
        if index not in self._expected:
            raise violation(f"Member {index} has no part in phase {self.phase} of this round.")

    def shortfall(self, answered: tuple[int, ...]) -> Abort | None:
        """Return why the round cannot go on with these, or None."""
        rules = (
            (AbortReason.BELOW_SHAMIR_THRESHOLD, self._threshold),
            (AbortReason.BELOW_COHORT, self._cohort),
        )
        for reason, needed in rules:
            if len(answered) < needed:
                return Abort(phase=self.phase, reason=reason, answered=len(answered), needed=needed)
        return None
