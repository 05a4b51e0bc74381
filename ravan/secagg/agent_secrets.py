"""An agent's dealings with secrets: deal and open shares, and derive the keys of its masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ravan.errors import ProtocolError
from ravan.ids import Digest
from ravan.manifest.assignment import Assignment
from ravan.manifest.roster import Bundle, Roster
from ravan.secagg.bundles import bundles_of, lay_out
from ravan.secagg.keys import RoundKeys, agree, derive_private_key, pair_mask_key, self_mask_key
from ravan.secagg.masking import BundleMask, MaskJob
from ravan.secagg.messages import ShareDelivery
from ravan.secagg.prg import SignedKey
from ravan.secagg.sealing import channel_key, open_sealed, seal
from ravan.secagg.shamir import parse_share, point, split


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldShares:
    """One holder's shares of one owner's secrets."""

    seed: bytes = field(repr=False)
    """Of the mask key's seed."""
    self_seeds: Mapping[int, bytes] = field(repr=False)
    """Bundle id to share of the self-mask seed; all of the owner's bundles that are not void."""


def channel_keys(keys: RoundKeys, index: int, roster: Roster, salt: bytes) -> dict[int, bytes]:
    """Agree with every other finisher on the key that seals shares; raise ProtocolError for a key of low order."""
    own = keys.channel_key
    return {
        entry.index: channel_key(agree(own, entry.channel_key, salt), (index, entry.index))
        for entry in roster.entries
        if entry.index != index
    }


def pair_secrets(keys: RoundKeys, index: int, roster: Roster, salt: bytes) -> dict[int, bytes]:
    """Agree with every other finisher on what masks derive from; raise ProtocolError for a key of low order."""
    own = derive_private_key(keys.mask_seed)
    return {entry.index: agree(own, entry.mask_key, salt) for entry in roster.entries if entry.index != index}


def deal_shares(
    keys: RoundKeys, index: int, roster: Roster, salt: bytes, channels: Mapping[int, bytes]
) -> tuple[HeldShares, dict[int, bytes]]:
    """Split the own secrets among all finishers: the share kept here, and one ciphertext per other."""
    holders = [entry.index for entry in roster.entries]
    points = [point(holder) for holder in holders]
    bundles = [bundle.bundle_id for bundle in bundles_of(roster.bundles, index)]
    dealt = [split(keys.mask_seed, roster.threshold, points, keys.seed_shamir_entropy())]
    for bundle_id in bundles:
        dealt.append(split(keys.self_seed(bundle_id), roster.threshold, points, keys.self_shamir_entropy(bundle_id)))
    by_holder = dict(zip(holders, zip(*dealt, strict=True), strict=True))
    own = _held(by_holder.pop(index), bundles)
    return own, {other: seal(channels[other], salt, index, other, shares) for other, shares in by_holder.items()}


def open_shares(
    index: int, roster: Roster, salt: bytes, channels: Mapping[int, bytes], delivery: ShareDelivery
) -> dict[int, HeldShares]:
    """Open what every other member of U2 sealed; raise ProtocolError that names the sender of a bad one."""
    held = {}
    for sender, ciphertext in delivery.ciphertexts.items():
        bundles = [bundle.bundle_id for bundle in bundles_of(roster.bundles, sender)]
        try:
            shares = open_sealed(channels[sender], salt, sender, index, ciphertext, shares=1 + len(bundles))
            for share in shares:
                parse_share(share)
        except ProtocolError as error:
            error.suspect = sender
            raise
        held[sender] = _held(shares, bundles)
    return held


def mask_job(
    keys: RoundKeys,
    pairs: Mapping[int, bytes],
    assignment: Assignment,
    index: int,
    roster: Roster,
    members: Sequence[int],
    mask_set: Digest,
) -> MaskJob:
    """Derive every keystream of this member: a self mask per bundle, a pair mask per partner in U2."""
    suite, partners = assignment.suite, pairs.keys() & set(members)

    def mask(bundle: Bundle) -> BundleMask:
        self_key = self_mask_key(keys.self_seed(bundle.bundle_id), suite, bundle.bundle_id, index)
        streams = [SignedKey(key=self_key, subtract=False)]
        for partner in bundle.members:
            if partner in partners:
                key = pair_mask_key(pairs[partner], suite, bundle.bundle_id, mask_set, (index, partner))
                streams.append(SignedKey(key=key, subtract=partner < index))
        return BundleMask(bundle_id=bundle.bundle_id, length=lay_out(assignment, bundle).length, keys=tuple(streams))

    bundles = tuple(mask(bundle) for bundle in bundles_of(roster.bundles, index))
    return MaskJob(suite=suite, ring_bits=assignment.ring_bits, bundles=bundles)


def _held(shares: Sequence[bytes], bundles: Sequence[int]) -> HeldShares:
    seed, *self_seeds = shares
    return HeldShares(seed=seed, self_seeds=dict(zip(bundles, self_seeds, strict=True)))
