"""Recover members' secrets from revealed shares, and find the holders whose shares are wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ravan.errors import ProtocolError
from ravan.manifest.roster import Roster
from ravan.secagg.bundles import bundles_of
from ravan.secagg.decoding import decode
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
    """Holders that were left out since their shares contradict those of the others, ascending.

    Either such a holder or the owner who dealt the share broke the rules: nobody but these two can tell.
    """


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

    Of m answers (m - t) / 2 wrong ones are found, rounded down, or up where the secret belongs to a
    public key. With t answers nothing shows that one is wrong but the check values of the sum.
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
    everyone = tuple(secret.shares)
    if len(everyone) < threshold:
        raise below_threshold(f"Only {len(everyone)} sites revealed shares; {threshold} must.")
    # Who was wrong once is left out first, and heard again where the others alone do not agree.
    trusted = tuple(holder for holder in everyone if holder not in suspects)
    for holders in dict.fromkeys((trusted, everyone)):
        solution = _solve(secret, holders, threshold)
        if solution is not None:
            suspects.update(solution.wrong)
            return solution.secret
    raise violation(f"The revealed shares of member {secret.owner} contradict each other and name no culprit.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Solution:
    """A secret, and the holders whose shares do not belong to it."""

    secret: bytes = field(repr=False)
    wrong: tuple[int, ...]


def _solve(secret: _Secret, holders: tuple[int, ...], threshold: int) -> _Solution | None:
    """Return the secret that the holders' shares give, or None when they contradict each other or the public key."""
    if len(holders) < threshold:
        return None
    points = tuple(point(holder) for holder in holders)
    shares = [secret.shares[holder] for holder in holders]
    if consistent(points, shares, threshold):
        return _combined(secret, points[:threshold], shares[:threshold])
    if secret.public_key is None:
        return _corrected(secret, holders, threshold)
    # The public key tells the right secret where shares alone cannot, so one more wrong one is found.
    attempts = [(), *((holder,) for holder in holders)]
    return next(filter(None, (_corrected(secret, holders, threshold, without) for without in attempts)), None)


def _combined(secret: _Secret, points: tuple[int, ...], shares: list[bytes]) -> _Solution | None:
    try:
        value = recover(points, shares)
    except ProtocolError:
        return None
    return _Solution(secret=value, wrong=()) if _belongs(secret, value) else None


def _corrected(
    secret: _Secret, holders: tuple[int, ...], threshold: int, without: tuple[int, ...] = ()
) -> _Solution | None:
    heard = [holder for holder in holders if holder not in without]
    decoded = decode([point(holder) for holder in heard], [secret.shares[holder] for holder in heard], threshold)
    if decoded is None or not _belongs(secret, decoded.secret):
        return None
    wrong = tuple(holder for holder in heard if point(holder) in decoded.wrong)
    return _Solution(secret=decoded.secret, wrong=(*without, *wrong))


def _belongs(secret: _Secret, value: bytes) -> bool:
    return secret.public_key in (None, public_bytes(derive_private_key(value)))
