"""The phases of the coordinator's machine in the order in which a round goes through them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ravan.ids import Digest
from ravan.manifest.assignment import Assignment
from ravan.manifest.roster import Roster
from ravan.secagg.bundles import approved_bundles, bundles_of, lay_out, plan_bundles, shamir_threshold
from ravan.secagg.cells import leave_thin_cells_out
from ravan.secagg.coordinator_states import (
    Abort,
    Aborted,
    AbortReason,
    Collecting,
    CoordinatorState,
    Outcome,
    Phase,
    Unmasking,
)
from ravan.secagg.groups import form_groups
from ravan.secagg.keys import verify
from ravan.secagg.messages import (
    KeyAdvertisement,
    MaskedHeader,
    RevealedShares,
    RevealRequest,
    SealedShares,
    SeedShare,
    SelfMaskShares,
    ShareDelivery,
    SurvivorSet,
    SurvivorSignature,
)
from ravan.secagg.packing import packed_bytes
from ravan.secagg.refusals import violation
from ravan.secagg.sealing import sealed_size
from ravan.secagg.shamir import parse_share
from ravan.secagg.terms import check_entry
from ravan.secagg.transcript import DIGEST_BYTES, mask_set_digest, survivor_bytes, survivor_digest, upload_bytes
from ravan.secagg.unmask import UnmaskJob


class Advertising(Collecting[KeyAdvertisement]):
    """Members train and advertise their round keys when they have finished."""

    phase = Phase.ADVERTISE

    def __init__(self, assignment: Assignment, assignment_digest: Digest) -> None:
        """Expect every member."""
        members = tuple(member.index for member in assignment.members)
        super().__init__(members, threshold=0, cohort=assignment.bundle_threshold)
        self._assignment = assignment
        self._digest = assignment_digest

    def advertised(self, index: int, advertisement: KeyAdvertisement) -> None:
        """Check the signature and that no key is taken."""
        self.check_expected(index)
        if advertisement.index != index:
            raise violation(f"Member {index} advertised keys in the name of member {advertisement.index}.")
        check_entry(self._assignment, self._digest, advertisement)
        taken = {key for other in self.answers.values() for key in (other.mask_key, other.channel_key)}
        own = {advertisement.mask_key, advertisement.channel_key}
        if len(own) < 2 or own & taken:
            raise violation(f"Member {index} advertised a round key that serves twice.")
        self.answers[index] = advertisement
        self._lost.discard(index)

    @property
    def answered(self) -> tuple[int, ...]:
        """Return who finished and was not lost since: in a roster they would raise the threshold and never answer."""
        return tuple(index for index in super().answered if index not in self._lost)

    def close_advertise(self) -> tuple[tuple[CoordinatorState, Roster], ...] | Abort:
        """Fix U1 and its groups, each with its threshold and bundles."""
        finishers = leave_thin_cells_out(self._assignment, self.answered)
        abort = self.shortfall(finishers)
        if abort:
            return abort
        rosters = [self._roster(group) for group in form_groups(self._assignment, finishers)]
        return tuple((Publishing(self._assignment, self._digest, roster), roster) for roster in rosters)

    def _roster(self, group: tuple[int, ...]) -> Roster:
        return Roster(
            assignment_digest=self._digest,
            entries=tuple(self.answers[index] for index in group),
            threshold=shamir_threshold(len(group)),
            bundles=plan_bundles(self._assignment, group),
        )


@dataclass(frozen=True, slots=True)
class Publishing(CoordinatorState):
    """The caller serialises and signs a group's roster."""

    phase = Phase.PUBLISH
    assignment: Assignment
    assignment_digest: Digest
    known: Roster

    def roster_published(self, roster_digest: Digest) -> CoordinatorState:
        """Open Sharing."""
        return Sharing(self.assignment, self.assignment_digest, self.known, roster_digest)


class Sharing(Collecting[SealedShares]):
    """Finishers seal shares of their secrets for each other."""

    phase = Phase.SHARING

    def __init__(
        self, assignment: Assignment, assignment_digest: Digest, roster: Roster, roster_digest: Digest
    ) -> None:
        """Expect U1."""
        self._finishers = tuple(entry.index for entry in roster.entries)
        super().__init__(self._finishers, threshold=roster.threshold, cohort=assignment.bundle_threshold)
        self._assignment, self._assignment_digest = assignment, assignment_digest
        self._roster, self._roster_digest = roster, roster_digest

    def shares(self, index: int, shares: SealedShares) -> None:
        """Check receivers and sizes; nobody but the receivers can check more."""
        self.check_expected(index)
        size = sealed_size(1 + len(bundles_of(self._roster.bundles, index)))
        if shares.ciphertexts.keys() != set(self._finishers) - {index}:
            raise violation(f"Member {index} did not seal one share for each other finisher.")
        if any(len(ciphertext) != size for ciphertext in shares.ciphertexts.values()):
            raise violation(f"Member {index} sealed shares of another size than {size} bytes.")
        self.answers[index] = shares

    def close_sharing(self) -> Outcome[dict[int, ShareDelivery]]:
        """Fix U2 and route the ciphertexts."""
        abort = self.shortfall(self.answered)
        if abort:
            return Aborted(), abort
        members = self.answered
        deliveries = {
            receiver: ShareDelivery(
                mask_set=members,
                ciphertexts={s: self.answers[s].ciphertexts[receiver] for s in members if s != receiver},
            )
            for receiver in members
        }
        return Uploading(self._masked_round(members)), deliveries

    def _masked_round(self, members: tuple[int, ...]) -> MaskedRound:
        return MaskedRound(
            assignment=self._assignment,
            assignment_digest=self._assignment_digest,
            roster=self._roster,
            roster_digest=self._roster_digest,
            mask_set=members,
            mask_set_digest=mask_set_digest(self._assignment_digest, self._roster_digest, members),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedRound:
    """What is settled once U2 is."""

    assignment: Assignment
    assignment_digest: Digest
    roster: Roster
    roster_digest: Digest
    mask_set: tuple[int, ...]
    mask_set_digest: Digest

    def verify(self, index: int, signature: bytes, message: bytes, what: str) -> None:
        """Raise ProtocolError unless member `index` signed `message`."""
        verify(self.assignment.members[index].identity_key, signature, message, f"member {index} under {what}")


class Uploading(Collecting[MaskedHeader]):
    """Members of U2 upload their masked vectors; the caller stages them."""

    phase = Phase.UPLOAD

    def __init__(self, settled: MaskedRound) -> None:
        """Expect U2."""
        super().__init__(
            settled.mask_set, threshold=settled.roster.threshold, cohort=settled.assignment.bundle_threshold
        )
        self._settled = settled

    def verify_upload(self, index: int, header: MaskedHeader) -> None:
        """Check that the header fits the member, the round and its own signature."""
        self.check_expected(index)
        settled = self._settled
        if header.index != index or header.mask_set_digest != settled.mask_set_digest:
            raise violation(f"The masked vector of member {index} belongs to another member or another round.")
        bundles = bundles_of(settled.roster.bundles, index)
        width = packed_bytes(settled.assignment.ring_bits)
        size = width * sum(lay_out(settled.assignment, bundle).length for bundle in bundles)
        if header.bundles != tuple(bundle.bundle_id for bundle in bundles) or header.size_bytes != size:
            raise violation(f"The masked vector of member {index} has other bundles or another size than {size} bytes.")
        if len(header.sha256) != DIGEST_BYTES:
            raise violation(f"The masked vector of member {index} comes with a hash that is no SHA-256.")
        message = upload_bytes(header.mask_set_digest, index, header.bundles, header.size_bytes, header.sha256)
        settled.verify(index, header.signature, message, "its masked vector")

    def uploaded(self, index: int, header: MaskedHeader) -> None:
        """Count the member as a survivor."""
        self.verify_upload(index, header)
        self.answers[index] = header

    def close_upload(self) -> Outcome[SurvivorSet]:
        """Fix U3."""
        abort = self.shortfall(self.answered)
        if abort:
            return Aborted(), abort
        survivors, settled = self.answered, self._settled
        bundles = approved_bundles(settled.assignment, settled.roster.bundles, survivors)
        if not bundles:
            return Aborted(), Abort(phase=self.phase, reason=AbortReason.NO_BUNDLE, answered=len(survivors), needed=1)
        survivor_set = SurvivorSet(survivors=survivors, bundles=bundles)
        return Confirming(settled, survivor_set), survivor_set


class Confirming(Collecting[SurvivorSignature]):
    """Survivors sign one survivor set, so that no two of them reveal for different ones."""

    phase = Phase.CONFIRMATION

    def __init__(self, settled: MaskedRound, survivor_set: SurvivorSet) -> None:
        """Expect U3."""
        super().__init__(survivor_set.survivors, threshold=settled.roster.threshold)
        self._settled = settled
        self._survivor_set = survivor_set

    def survivor_signature(self, index: int, signature: SurvivorSignature) -> None:
        """Check the signature."""
        self.check_expected(index)
        if signature.index != index:
            raise violation(f"Member {index} signed in the name of member {signature.index}.")
        chosen = self._survivor_set
        message = survivor_bytes(self._settled.mask_set_digest, chosen.survivors, chosen.bundles)
        self._settled.verify(index, signature.signature, message, "the survivor set")
        self.answers[index] = signature

    def close_confirmation(self) -> Outcome[RevealRequest]:
        """Gather the signatures."""
        abort = self.shortfall(self.answered)
        if abort:
            return Aborted(), abort
        signatures = tuple(self.answers[index] for index in self.answered)
        request = RevealRequest(survivor_set=self._survivor_set, signatures=signatures)
        return Revealing(self._settled, self._survivor_set), request


class Revealing(Collecting[RevealedShares]):
    """Survivors reveal one kind of share of each member of U2."""

    phase = Phase.REVEAL

    def __init__(self, settled: MaskedRound, survivor_set: SurvivorSet) -> None:
        """Expect U3."""
        super().__init__(survivor_set.survivors, threshold=settled.roster.threshold)
        self._settled = settled
        self._survivor_set = survivor_set
        self._digest = survivor_digest(settled.mask_set_digest, survivor_set.survivors, survivor_set.bundles)

    def revealed(self, index: int, shares: RevealedShares) -> None:
        """Check that exactly the right kind of share is there for every owner."""
        self.check_expected(index)
        if shares.survivor_digest != self._digest or shares.shares.keys() != set(self._settled.mask_set):
            raise violation(f"Member {index} revealed shares for another survivor set.")
        for owner, share in shares.shares.items():
            self._check_kind(index, owner, share)
        self.answers[index] = shares

    def close_reveal(self) -> Outcome[UnmaskJob]:
        """Make the worker's job."""
        abort = self.shortfall(self.answered)
        if abort:
            return Aborted(), abort
        settled = self._settled
        job = UnmaskJob(
            assignment=settled.assignment,
            assignment_digest=settled.assignment_digest,
            roster=settled.roster,
            roster_digest=settled.roster_digest,
            mask_set=settled.mask_set,
            survivor_set=self._survivor_set,
            reveals={index: self.answers[index].shares for index in self.answered},
        )
        return Unmasking(), job

    def _check_kind(self, index: int, owner: int, share: SelfMaskShares | SeedShare) -> None:
        fault = violation(f"Member {index} revealed the wrong kind of share of member {owner}.")
        match share:
            case SeedShare():
                if owner in self._survivor_set.survivors:
                    raise fault
                parse_share(share.share)
            case SelfMaskShares():
                if owner not in self._survivor_set.survivors or share.shares.keys() != self._released(owner):
                    raise fault
                _parse_all(share.shares)

    def _released(self, owner: int) -> set[int]:
        approved = set(self._survivor_set.bundles)
        return {b.bundle_id for b in bundles_of(self._settled.roster.bundles, owner)} & approved


def _parse_all(shares: Mapping[int, bytes]) -> None:
    for share in shares.values():
        parse_share(share)
