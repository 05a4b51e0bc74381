"""States of the agent up to the masked vector: keys, shares, masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ravan.ids import Digest
from ravan.manifest.roster import Roster, RosterEntry
from ravan.secagg.agent_reveal import Uploading
from ravan.secagg.agent_secrets import HeldShares, channel_keys, deal_shares, mask_job, open_shares, pair_secrets
from ravan.secagg.agent_states import AgentContext, AgentState, RoundView, Step
from ravan.secagg.bundles import bundles_of
from ravan.secagg.effects import Advertise, Mask, SendShares, Upload
from ravan.secagg.keys import derive_private_key, public_bytes
from ravan.secagg.masking import MaskJob
from ravan.secagg.messages import MaskedHeader, SealedShares, ShareDelivery
from ravan.secagg.refusals import below_threshold, malformed, violation
from ravan.secagg.terms import check_entry, check_roster, is_ascending
from ravan.secagg.transcript import DIGEST_BYTES, advertise_bytes, derivation_salt, mask_set_digest, upload_bytes


@dataclass(frozen=True, slots=True)
class Training(AgentState):
    """Nothing was sent yet."""

    name = "TRAINING"
    context: AgentContext

    def finish_training(self) -> Step:
        """Sign the public round keys."""
        context = self.context
        mask_key = public_bytes(derive_private_key(context.keys.mask_seed))
        channel_key = public_bytes(context.keys.channel_key)
        message = advertise_bytes(context.assignment_digest, context.index, mask_key, channel_key)
        entry = RosterEntry(
            index=context.index, mask_key=mask_key, channel_key=channel_key, signature=context.signer(message)
        )
        # Finds a site whose identity is not the assigned one before anybody waits for it.
        check_entry(context.assignment, context.assignment_digest, entry)
        return Advertised(context, entry), (Advertise(advertisement=entry),)


@dataclass(frozen=True, slots=True)
class Advertised(AgentState):
    """The round keys are out; the roster is awaited."""

    name = "ADVERTISED"
    context: AgentContext
    entry: RosterEntry

    def roster(self, roster: Roster, roster_digest: Digest) -> Step:
        """Check the roster, deal and seal the shares of all own secrets."""
        context = self.context
        check_roster(context.assignment, context.assignment_digest, roster, self.entry)
        salt = derivation_salt(context.assignment_digest, roster_digest)
        channels = channel_keys(context.keys, context.index, roster, salt)
        # Now, and not when it masks: a key of low order is refused before anything of the own secrets leaves.
        pairs = pair_secrets(context.keys, context.index, roster, salt)
        own, ciphertexts = deal_shares(context.keys, context.index, roster, salt, channels)
        following = Sharing(context, roster, roster_digest, channels, pairs, own)
        return following, (SendShares(shares=SealedShares(ciphertexts=ciphertexts)),)


@dataclass(frozen=True, slots=True)
class Sharing(AgentState):
    """The own shares are out; those of the others are awaited."""

    name = "SHARING"
    context: AgentContext
    known: Roster
    roster_digest: Digest
    channels: Mapping[int, bytes] = field(repr=False)
    pairs: Mapping[int, bytes] = field(repr=False)
    own: HeldShares

    def deliver(self, delivery: ShareDelivery) -> Step:
        """Check U2 and open every share at once: a bad one is found before the update is consumed."""
        context, roster = self.context, self.known
        self._check_mask_set(delivery)
        salt = derivation_salt(context.assignment_digest, self.roster_digest)
        held = open_shares(context.index, roster, salt, self.channels, delivery)
        mask_set = mask_set_digest(context.assignment_digest, self.roster_digest, delivery.mask_set)
        job = mask_job(context.keys, self.pairs, context.assignment, context.index, roster, delivery.mask_set, mask_set)
        view = RoundView(
            context=context,
            roster=roster,
            mask_set=delivery.mask_set,
            mask_set_digest=mask_set,
            held={**held, context.index: self.own},
        )
        return Masking(view, job), (Mask(job=job),)

    def _check_mask_set(self, delivery: ShareDelivery) -> None:
        members = delivery.mask_set
        if not is_ascending(members) or not {e.index for e in self.known.entries}.issuperset(members):
            raise violation("The mask set lists members twice, out of order, or that are not in the roster.")
        if self.context.index not in members:
            raise violation("The mask set leaves this site out although its shares were delivered.")
        if len(members) < self.known.threshold:
            raise below_threshold(f"Only {len(members)} sites shared their keys; {self.known.threshold} must.")
        if delivery.ciphertexts.keys() != set(members) - {self.context.index}:
            raise violation("The delivered shares are not exactly those of the mask set.")


@dataclass(frozen=True, slots=True)
class Masking(AgentState):
    """A worker masks the update; nothing of it has left yet."""

    name = "MASKING"
    view: RoundView
    job: MaskJob

    def masked(self, sha256: Digest, size_bytes: int) -> Step:
        """Sign what the worker stored."""
        if size_bytes != self.job.size_bytes or len(sha256) != DIGEST_BYTES:
            raise malformed(f"The masked vector has {size_bytes} bytes instead of {self.job.size_bytes}.")
        context, view = self.view.context, self.view
        bundles = tuple(b.bundle_id for b in bundles_of(view.roster.bundles, context.index))
        message = upload_bytes(view.mask_set_digest, context.index, bundles, size_bytes, sha256)
        header = MaskedHeader(
            index=context.index,
            mask_set_digest=view.mask_set_digest,
            bundles=bundles,
            size_bytes=size_bytes,
            sha256=sha256,
            signature=context.signer(message),
        )
        return Uploading(view), (Upload(header=header),)
