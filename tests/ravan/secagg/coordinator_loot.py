"""What a lying coordinator can make of all that agents gave it: its best effort, with a program of its own.

It has the documents, every payload, every revealed share and whatever its own agents know. The
arithmetic is that of the slow implementation, so nothing here depends on the code that is attacked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

import slow_headsum as slow
from secagg_driver import Federation, seeded, unpacked_page

from ravan.secagg.agent_secrets import HeldShares
from ravan.secagg.bundles import bundles_of, lay_out
from ravan.secagg.messages import RevealedShares, SeedShare, SelfMaskShares, SurvivorSet

MASK_SEED: Final = -1
"""In place of a bundle: names the seed of a member's pair masks instead of that of a self mask."""

Holdings = Mapping[int, Mapping[int, HeldShares]]
"""Holder to owner to the shares that the holder keeps to itself."""


def holdings(federation: Federation) -> Holdings:
    """Look into the agents: for showing what would happen if they said it."""
    states: dict[int, Any] = {i: agent._state for i, agent in federation.agents.items()}
    return {i: dict(state.view.held) for i, state in states.items() if hasattr(state, "view")}


def without_checks(held: Mapping[int, HeldShares], asked: SurvivorSet) -> dict[int, SelfMaskShares | SeedShare]:
    """Answer as an agent would that reveals for any survivor set."""
    return {
        owner: SelfMaskShares(shares={b: s for b, s in mine.self_seeds.items() if b in asked.bundles})
        if owner in asked.survivors
        else SeedShare(share=mine.seed)
        for owner, mine in held.items()
    }


class Loot:
    """Shares and secrets at the coordinator, and what they open."""

    def __init__(self, federation: Federation, corrupt: Iterable[int] = (), held: Holdings | None = None) -> None:
        """Start with all that the agents `corrupt` know; `held` are the shares that they keep, if any were dealt."""
        assert federation.roster is not None
        self._federation = federation
        self._roster = federation.roster
        self._shares: dict[tuple[int, int], dict[int, bytes]] = defaultdict(dict)
        self._known: dict[tuple[int, int], bytes] = {}
        for index in corrupt:
            own = slow.SlowMember(index, seeded("root", index))
            self._known[index, MASK_SEED] = own.mask_seed
            for bundle in bundles_of(self._roster.bundles, index):
                self._known[index, bundle.bundle_id] = own.self_seed(bundle.bundle_id)
            for owner, mine in (held or {}).get(index, {}).items():
                self.take(index, {owner: SeedShare(share=mine.seed)})
                self.take(index, {owner: SelfMaskShares(shares=mine.self_seeds)})

    def take(self, holder: int, shares: Mapping[int, SelfMaskShares | SeedShare]) -> None:
        """Keep what a holder said."""
        for owner, share in shares.items():
            if isinstance(share, SeedShare):
                self._shares[owner, MASK_SEED][holder] = share.share
            else:
                for bundle_id, part in share.shares.items():
                    self._shares[owner, bundle_id][holder] = part

    def take_reveals(self, reveals: Mapping[int, RevealedShares]) -> None:
        """Keep the answers to reveal requests."""
        for holder, revealed in reveals.items():
            self.take(holder, revealed.shares)

    def secret(self, owner: int, name: int) -> bytes | None:
        """Return a seed that the coordinator knows or can put together."""
        shares = self._shares[owner, name]
        if (owner, name) in self._known:
            return self._known[owner, name]
        if len(shares) < self._roster.threshold:
            return None
        holders = sorted(shares)[: self._roster.threshold]
        return slow.shamir_solve([h + 1 for h in holders], [shares[h] for h in holders])

    def bare(self, members: Iterable[int], bundle_id: int) -> list[int] | None:
        """Return the sum of these members' vectors of a bundle, or None while any mask is left on it."""
        together = tuple(members)
        columns = [self._without_masks(member, together, bundle_id) for member in together]
        if any(column is None for column in columns):
            return None
        return [sum(values) % 2**24 for values in zip(*(c for c in columns if c is not None), strict=True)]

    def _without_masks(self, member: int, together: tuple[int, ...], bundle_id: int) -> list[int] | None:
        """Take off the self mask and all pair masks but those that cancel within the sum."""
        words = self._payload(member, bundle_id)
        seed = self.secret(member, bundle_id)
        if seed is None:
            return None
        own = slow.info("ravan/secagg/v1/self", bytes([slow.AES_128_CTR]), slow.short(bundle_id), slow.short(member))
        streams = [(-1, slow.expand(seed, own, 16))]
        for partner in set(self._roster.bundles[bundle_id].members).intersection(self._federation.mask_set):
            if partner not in together:
                key = self._pair_key(member, partner, bundle_id)
                if key is None:
                    return None
                streams.append((1 if partner < member else -1, key))
        for sign, key in streams:
            stream = slow.keystream_words(key, len(words))
            words = [(word + sign * mask) % 2**24 for word, mask in zip(words, stream, strict=True)]
        return words

    def _pair_key(self, member: int, partner: int, bundle_id: int) -> bytes | None:
        federation = self._federation
        public = {entry.index: entry.mask_key for entry in self._roster.entries}
        documents = slow.salt(federation.digest, federation.roster_digest)
        mask_set = slow.mask_set_digest(federation.digest, federation.roster_digest, list(federation.mask_set))
        low, high = sorted((member, partner))
        context = slow.info(
            "ravan/secagg/v1/pair",
            bytes([slow.AES_128_CTR]),
            slow.short(bundle_id),
            slow.blob(mask_set),
            slow.short(low),
            slow.short(high),
        )
        for one, other in ((member, partner), (partner, member)):
            seed = self.secret(one, MASK_SEED)
            if seed is not None:
                scalar = slow.expand(seed, slow.info("ravan/secagg/v1/dh"), 32)
                return slow.expand(slow.extract(documents, slow.x25519(scalar, public[other])), context, 16)
        return None

    def _payload(self, member: int, bundle_id: int) -> list[int]:
        position = 0
        for bundle in bundles_of(self._roster.bundles, member):
            size = 3 * lay_out(self._federation.assignment, bundle).length
            if bundle.bundle_id == bundle_id:
                return unpacked_page(memoryview(self._federation.payloads[member])[position : position + size])
            position += size
        raise AssertionError(f"member {member} has no bundle {bundle_id}")
