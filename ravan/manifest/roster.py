"""The roster: who finished training and with which round keys, signed when Advertise closes."""

from __future__ import annotations

from dataclasses import dataclass

from ravan.ids import BlockId, Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class RosterEntry:
    """One finisher's round keys under its own identity's signature."""

    index: int
    """Member index of the assignment."""
    mask_key: bytes
    """X25519 public key of the pair masks, fresh for the round, 32 bytes."""
    channel_key: bytes
    """X25519 public key that seals shares, fresh for the round, 32 bytes."""
    signature: bytes
    """Ed25519 by the member's identity over assignment digest, index and both keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """All blocks with one and the same cohort among the finishers, and the scores of heads with that cohort."""

    bundle_id: int
    """0 carries canaries, counts and the dense blocks; heads follow from 1."""
    blocks: tuple[BlockId, ...]
    """In the order of the assignment's block list."""
    scored: tuple[BlockId, ...] = ()
    """Heads that exactly its members score, in that order too; those that all finishers score are in bundle 0."""
    members: tuple[int, ...]
    """Cohort: member indices, ascending."""
    threshold: int
    """t_B of this bundle."""
    void: bool
    """Whether the cohort is below the threshold already, so that nobody uploads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """Who masks together in this round."""

    assignment_digest: Digest
    entries: tuple[RosterEntry, ...]
    """U1, by ascending index."""
    threshold: int
    """t = floor(2 n / 3) + 1 with n = |U1|: shares needed to recover a secret."""
    bundles: tuple[Bundle, ...]
    """By ascending id; a function of assignment and U1 that every agent checks."""
