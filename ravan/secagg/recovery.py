"""Recover members' secrets from revealed shares, and find a holder whose shares are wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ravan.errors import ProtocolError
from ravan.manifest.roster import Roster
from ravan.secagg.bundles import bundles_of
from ravan.secagg.keys import derive_private_key, public_bytes
from ravan.secagg.messages import SeedShare, SelfMaskShares, SurvivorSet
from ravan.secagg.refusals import below_threshold, violation
from ravan.secagg.shamir import consistent, point, recover

Reveals = Mapping[int, Mapping[int, SelfMaskShares | SeedShare]]
"""Holder index to owner index to revealed shares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveredSecrets:
    """What t survivors' shares give."""

    mask_seeds: Mapping[int, bytes] = field(repr=False)
    """Dropped member to its mask key's seed."""
    self_seeds: Mapping[tuple[int, int], bytes] = field(repr=False)
    """(survivor, approved bundle id) to self-mask seed."""
    suspects: tuple[int, ...]
    """Holders that were left out because their shares contradict all others, ascending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Secret:
    """One shared secret as the holders revealed it."""

    owner: int
    shares: Mapping[int, bytes] = field(repr=False)
    """Holder to share."""
    public_key: bytes | None
    """What the secret must derive to, where that is known."""


def recover_secrets(roster: Roster, survivor_set: SurvivorSet, reveals: Reveals) -> RecoveredSecrets:
    """Recover every revealed secret; raise ProtocolError when shares contradict each other beyond repair.

    One wrong holder is found with t + 2 answers, or t + 1 where the secret belongs to a public key.
    """
    mask_keys = {entry.index: entry.mask_key for entry in roster.entries}
    suspects: set[int] = set()
    mask_seeds = {}
    for owner in _dropped(survivor_set, reveals):
        shares = {holder: shared.share for holder, shared in _of(owner, reveals) if isinstance(shared, SeedShare)}
        secret = _Secret(owner=owner, shares=shares, public_key=mask_keys[owner])
        mask_seeds[owner] = _recover(secret, roster.threshold, suspects)
    self_seeds = {}
    for owner in survivor_set.survivors:
        for bundle in bundles_of(roster.bundles, owner):
            if bundle.bundle_id in survivor_set.bundles:
                secret = _self_secret(owner, bundle.bundle_id, reveals)
                self_seeds[owner, bundle.bundle_id] = _recover(secret, roster.threshold, suspects)
    return RecoveredSecrets(mask_seeds=mask_seeds, self_seeds=self_seeds, suspects=tuple(sorted(suspects)))


def _dropped(survivor_set: SurvivorSet, reveals: Reveals) -> list[int]:
    owners = {owner for shares in reveals.values() for owner in shares}
    return sorted(owners.difference(survivor_set.survivors))


def _of(owner: int, reveals: Reveals) -> Iterator[tuple[int, SelfMaskShares | SeedShare]]:
    return ((holder, shares[owner]) for holder, shares in sorted(reveals.items()))


def _self_secret(owner: int, bundle_id: int, reveals: Reveals) -> _Secret:
    shares = {
        holder: shared.shares[bundle_id] for holder, shared in _of(owner, reveals) if isinstance(shared, SelfMaskShares)
    }
    return _Secret(owner=owner, shares=shares, public_key=None)


def _recover(secret: _Secret, threshold: int, suspects: set[int]) -> bytes:
    holders = [holder for holder in secret.shares if holder not in suspects]
    value = _attempt(secret, holders, threshold)
    if value is not None:
        return value
    found = [(h, v) for h in holders if (v := _attempt_without(secret, holders, h, threshold)) is not None]
    if len(found) != 1:
        raise violation(f"The revealed shares of member {secret.owner} contradict each other and name no culprit.")
    culprit, value = found[0]
    suspects.add(culprit)
    return value


def _attempt_without(secret: _Secret, holders: list[int], culprit: int, threshold: int) -> bytes | None:
    rest = [holder for holder in holders if holder != culprit]
    checkable = len(rest) > threshold or secret.public_key is not None
    return _attempt(secret, rest, threshold) if checkable and len(rest) >= threshold else None


def _attempt(secret: _Secret, holders: list[int], threshold: int) -> bytes | None:
    """Return the secret, or None when the shares contradict each other or the public key."""
    if len(holders) < threshold:
        raise below_threshold(f"Only {len(holders)} sites revealed shares; {threshold} must.")
    points = tuple(point(holder) for holder in holders)
    shares = [secret.shares[holder] for holder in holders]
    used = threshold + 1
    # One share more than needed shows a wrong one among all that are used; further ones change no sum.
    if len(holders) >= used and not consistent(points[:used], shares[:used]):
        return None
    try:
        value = recover(points[:threshold], shares[:threshold])
    except ProtocolError:
        return None
    if secret.public_key is not None and public_bytes(derive_private_key(value)) != secret.public_key:
        return None
    return value
