"""What all states of the agent's machine have in common: a default that refuses every input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from ravan.ids import Digest
from ravan.manifest.assignment import Assignment
from ravan.manifest.roster import Roster
from ravan.secagg.agent_secrets import HeldShares
from ravan.secagg.effects import Effect
from ravan.secagg.keys import RoundKeys, Signer
from ravan.secagg.messages import RevealRequest, ShareDelivery, SurvivorSet
from ravan.secagg.refusals import out_of_turn


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentContext:
    """What stays the same for one member through the whole round."""

    assignment: Assignment
    assignment_digest: Digest
    index: int
    signer: Signer = field(repr=False)
    keys: RoundKeys


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundView:
    """What a member knows once masks are fixed."""

    context: AgentContext
    roster: Roster
    mask_set: tuple[int, ...]
    mask_set_digest: Digest
    held: Mapping[int, HeldShares] = field(repr=False)
    """By owner, the own shares included."""


class AgentState:
    """Refuse every input."""

    name: ClassVar[str]

    def finish_training(self) -> Step:
        """Refuse."""
        raise out_of_turn(self.name, "finish training")

    def roster(self, roster: Roster, roster_digest: Digest) -> Step:  # noqa: ARG002 - default-deny
        """Refuse."""
        raise out_of_turn(self.name, "roster")

    def deliver(self, delivery: ShareDelivery) -> Step:  # noqa: ARG002 - default-deny
        """Refuse."""
        raise out_of_turn(self.name, "share delivery")

    def masked(self, sha256: Digest, size_bytes: int) -> Step:  # noqa: ARG002 - default-deny
        """Refuse."""
        raise out_of_turn(self.name, "masked vector")

    def uploaded(self) -> Step:
        """Refuse."""
        raise out_of_turn(self.name, "upload receipt")

    def survivors(self, survivor_set: SurvivorSet) -> Step:  # noqa: ARG002 - default-deny
        """Refuse."""
        raise out_of_turn(self.name, "survivor set")

    def reveal(self, request: RevealRequest) -> Step:  # noqa: ARG002 - default-deny
        """Refuse."""
        raise out_of_turn(self.name, "reveal request")


Step = tuple[AgentState, tuple[Effect, ...]]


class Closed(AgentState):
    """The round is over for this member and holds no secret any more."""

    name = "CLOSED"
