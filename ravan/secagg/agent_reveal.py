"""States of the agent from upload to reveal: one survivor set is signed, and revealed for, ever."""

from __future__ import annotations

from dataclasses import dataclass

from ravan.secagg.agent_states import AgentState, RoundView, Step
from ravan.secagg.bundles import approved_bundles
from ravan.secagg.effects import PersistRevealed, SendReveal, SignSurvivors
from ravan.secagg.keys import verify
from ravan.secagg.messages import (
    RevealedShares,
    RevealRequest,
    SeedShare,
    SelfMaskShares,
    SurvivorSet,
    SurvivorSignature,
)
from ravan.secagg.refusals import below_threshold, violation
from ravan.secagg.terms import is_ascending
from ravan.secagg.transcript import survivor_bytes, survivor_digest


@dataclass(frozen=True, slots=True)
class Uploading(AgentState):
    """The payload is on its way; the coordinator may name survivors as soon as it has all of it."""

    name = "UPLOADING"
    view: RoundView

    def uploaded(self) -> Step:
        """Note the receipt; it changes nothing that this member would accept."""
        return self, ()

    def survivors(self, survivor_set: SurvivorSet) -> Step:
        """Check the survivor set against roster and U2, and sign it."""
        _check_survivors(self.view, survivor_set)
        context = self.view.context
        message = survivor_bytes(self.view.mask_set_digest, survivor_set.survivors, survivor_set.bundles)
        signature = SurvivorSignature(index=context.index, signature=context.signer(message))
        return Confirmed(self.view, survivor_set, signature), (SignSurvivors(signature=signature),)


@dataclass(frozen=True, slots=True)
class Confirmed(AgentState):
    """One survivor set is signed; no other will be."""

    name = "CONFIRMED"
    view: RoundView
    signed: SurvivorSet
    signature: SurvivorSignature

    def uploaded(self) -> Step:
        """Note a receipt that was overtaken by the survivor set."""
        return self, ()

    def survivors(self, survivor_set: SurvivorSet) -> Step:
        """Give the same signature again; refuse any other set."""
        _check_same(self.signed, survivor_set)
        return self, (SignSurvivors(signature=self.signature),)

    def reveal(self, request: RevealRequest) -> Step:
        """Check that t survivors signed the same set, and reveal one kind of share of each owner."""
        _check_same(self.signed, request.survivor_set)
        self._check_signatures(request)
        revealed = self._revealed()
        effects = (PersistRevealed(survivor_digest=revealed.survivor_digest), SendReveal(shares=revealed))
        return Revealed(self.signed, self.signature, revealed), effects

    def _check_signatures(self, request: RevealRequest) -> None:
        signers = [signature.index for signature in request.signatures]
        if not is_ascending(signers) or not set(self.signed.survivors).issuperset(signers):
            raise violation("The survivor set is signed twice by one member, or by one that is no survivor.")
        if len(signers) < self.view.roster.threshold:
            raise below_threshold(
                f"Only {len(signers)} sites signed the survivor set; {self.view.roster.threshold} must."
            )
        message = survivor_bytes(self.view.mask_set_digest, self.signed.survivors, self.signed.bundles)
        members = self.view.context.assignment.members
        for signature in request.signatures:
            what = f"member {signature.index} under the survivor set"
            verify(members[signature.index].identity_key, signature.signature, message, what)

    def _revealed(self) -> RevealedShares:
        return RevealedShares(
            survivor_digest=survivor_digest(self.view.mask_set_digest, self.signed.survivors, self.signed.bundles),
            shares={owner: self._shares_of(owner) for owner in self.view.mask_set},
        )

    def _shares_of(self, owner: int) -> SelfMaskShares | SeedShare:
        held = self.view.held[owner]
        if owner not in self.signed.survivors:
            return SeedShare(share=held.seed)
        approved = self.signed.bundles
        return SelfMaskShares(shares={b: share for b, share in held.self_seeds.items() if b in approved})


@dataclass(frozen=True, slots=True)
class Revealed(AgentState):
    """Shares were revealed; the same may be asked again, nothing else ever."""

    name = "REVEALED"
    signed: SurvivorSet
    signature: SurvivorSignature
    shares: RevealedShares

    def survivors(self, survivor_set: SurvivorSet) -> Step:
        """Give the same signature again; refuse any other set."""
        _check_same(self.signed, survivor_set)
        return self, (SignSurvivors(signature=self.signature),)

    def reveal(self, request: RevealRequest) -> Step:
        """Give the same shares again; refuse any other set."""
        _check_same(self.signed, request.survivor_set)
        return self, (SendReveal(shares=self.shares),)


def _check_survivors(view: RoundView, survivor_set: SurvivorSet) -> None:
    survivors = survivor_set.survivors
    if not is_ascending(survivors) or not set(view.mask_set).issuperset(survivors):
        raise violation("The survivor set lists members twice, out of order, or that did not mask.")
    if view.context.index not in survivors:
        raise violation("The survivor set declares this site dropped although it uploaded.")
    if len(survivors) < view.roster.threshold:
        raise below_threshold(f"Only {len(survivors)} sites uploaded; {view.roster.threshold} must.")
    approved = approved_bundles(view.context.assignment, view.roster.bundles, survivors)
    if not approved:
        raise below_threshold(f"No bundle has enough of the {len(survivors)} survivors to be released.")
    if survivor_set.bundles != approved:
        raise violation("The bundles to be released do not follow from the survivors.")


def _check_same(signed: SurvivorSet, asked: SurvivorSet) -> None:
    if asked != signed:
        raise violation("This site signed another survivor set of this round and reveals for no second one.")
