"""The agent's side of one round: a machine that takes messages and returns effects, without I/O."""

from __future__ import annotations

from ravan.ids import Digest
from ravan.manifest.assignment import BUNDLE_FLOOR, Assignment
from ravan.manifest.roster import Roster
from ravan.secagg.agent_sharing import Training
from ravan.secagg.agent_states import AgentContext, AgentState, Closed, Step
from ravan.secagg.effects import Effect
from ravan.secagg.keys import ROOT_BYTES, RoundKeys, Signer
from ravan.secagg.messages import RevealRequest, ShareDelivery, SurvivorSet
from ravan.secagg.refusals import malformed, violation
from ravan.secagg.terms import check_assignment


class AgentRound:
    """Keep one member's part in one round; every input returns effects or raises RavanError.

    An input that is refused changes nothing. The machine is deterministic: the same root, documents
    and inputs give the same bytes, so a shell may replay what it stored and never mask anew.
    """

    def __init__(
        self,
        *,
        assignment: Assignment,
        assignment_digest: Digest,
        index: int,
        signer: Signer,
        root: bytes,
        policy_floor: int = BUNDLE_FLOOR,
    ) -> None:
        """Join the round as member `index`; raise ProtocolError when the assignment cannot be accepted.

        `root` is 32 fresh bytes of `os.urandom`, never used for another round, stored readable by
        nobody else. `signer` signs with the site's Ed25519 identity.
        """
        check_assignment(assignment, policy_floor)
        if not 0 <= index < len(assignment.members):
            raise violation(f"The assignment has no member {index}.")
        if len(root) != ROOT_BYTES:
            raise malformed(f"The root secret of a round has {ROOT_BYTES} bytes, not {len(root)}.")
        self._state: AgentState = Training(
            AgentContext(
                assignment=assignment,
                assignment_digest=assignment_digest,
                index=index,
                signer=signer,
                keys=RoundKeys(root=root),
            )
        )

    @property
    def state(self) -> str:
        """Return the state's name, for logs and refusals."""
        return self._state.name

    def finish_training(self) -> tuple[Effect, ...]:
        """Make the round keys: Advertise."""
        return self._enter(self._state.finish_training())

    def roster(self, roster: Roster, roster_digest: Digest) -> tuple[Effect, ...]:
        """Check the roster and share the own secrets: SendShares."""
        return self._enter(self._state.roster(roster, roster_digest))

    def deliver(self, delivery: ShareDelivery) -> tuple[Effect, ...]:
        """Open the shares of the others and fix who masks with whom: Mask, exactly once."""
        return self._enter(self._state.deliver(delivery))

    def masked(self, sha256: Digest, size_bytes: int) -> tuple[Effect, ...]:
        """Sign the header of the stored payload: Upload; the update is consumed from here on."""
        return self._enter(self._state.masked(sha256, size_bytes))

    def uploaded(self) -> tuple[Effect, ...]:
        """Note that the coordinator has the whole payload; no effect."""
        return self._enter(self._state.uploaded())

    def survivors(self, survivor_set: SurvivorSet) -> tuple[Effect, ...]:
        """Check and sign the survivor set: SignSurvivors; the same set again gives the same signature."""
        return self._enter(self._state.survivors(survivor_set))

    def reveal(self, request: RevealRequest) -> tuple[Effect, ...]:
        """Reveal shares for the signed survivor set: PersistRevealed, then SendReveal.

        The same set again gives SendReveal with the same content; any other is refused for ever.
        """
        return self._enter(self._state.reveal(request))

    def close(self) -> None:
        """Drop all secrets: the round has a result, was given up, or this site leaves it."""
        self._state = Closed()

    def _enter(self, step: Step) -> tuple[Effect, ...]:
        self._state, effects = step
        return effects
