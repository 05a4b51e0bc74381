"""What the parties of one round tell each other, as immutable values; `ravan.codec` carries them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ravan.ids import Digest
from ravan.manifest.roster import RosterEntry

KeyAdvertisement = RosterEntry
"""Agent to coordinator, after training; enters the roster as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedShares:
    """Agent to coordinator: the shares of its own secrets, one ciphertext for each other finisher."""

    ciphertexts: Mapping[int, bytes] = field(repr=False)
    """Receiver index to ciphertext; receivers are U1 without the sender."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareDelivery:
    """Coordinator to one member of U2: who shared, and what they sealed for this member."""

    mask_set: tuple[int, ...]
    """U2, ascending: whose shares arrived, and so who masks with whom."""
    ciphertexts: Mapping[int, bytes] = field(repr=False)
    """Sender index to ciphertext; senders are U2 without the receiver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedHeader:
    """Agent to coordinator, with the masked vector: what the payload is, under the member's signature."""

    index: int
    mask_set_digest: Digest
    """Digest over assignment, roster and U2."""
    bundles: tuple[int, ...]
    """Bundle ids in payload order, ascending: every bundle of the member that is not void."""
    size_bytes: int
    sha256: Digest
    """Of the whole payload."""
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SurvivorSet:
    """Coordinator to all survivors: whose vectors are summed, and which bundles are released."""

    survivors: tuple[int, ...]
    """U3, ascending."""
    bundles: tuple[int, ...]
    """Approved bundle ids, ascending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SurvivorSignature:
    """Survivor to coordinator: its identity's signature over the survivor set."""

    index: int
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RevealRequest:
    """Coordinator to all survivors: the survivor set with at least t signatures."""

    survivor_set: SurvivorSet
    signatures: tuple[SurvivorSignature, ...]
    """By ascending index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfMaskShares:
    """Shares of a survivor's self-mask seeds."""

    shares: Mapping[int, bytes] = field(repr=False)
    """Approved bundle id to share, 33 bytes each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedShare:
    """Share of a dropped member's mask key seed."""

    share: bytes = field(repr=False)
    """33 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevealedShares:
    """Survivor to coordinator: for each member of U2 one kind of share, never both."""

    survivor_digest: Digest
    """Which survivor set this answers."""
    shares: Mapping[int, SelfMaskShares | SeedShare]
    """Owner index to what is revealed of it."""
