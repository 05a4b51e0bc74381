"""What the agent's machine asks its shell to do, in order; a shell does nothing else on its own."""

from __future__ import annotations

from dataclasses import dataclass

from ravan.ids import Digest
from ravan.secagg.masking import MaskJob
from ravan.secagg.messages import (
    KeyAdvertisement,
    MaskedHeader,
    RevealedShares,
    SealedShares,
    SurvivorSignature,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advertise:
    """Send the round keys."""

    advertisement: KeyAdvertisement


@dataclass(frozen=True, slots=True, kw_only=True)
class SendShares:
    """Send the sealed shares."""

    shares: SealedShares


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """Run `mask_vectors(job, vectors)` in a worker, store the payload, then call `masked()`."""

    job: MaskJob


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """Send the stored payload under this header; the update counts as consumed from here on."""

    header: MaskedHeader


@dataclass(frozen=True, slots=True, kw_only=True)
class SignSurvivors:
    """Send the signature over the survivor set."""

    signature: SurvivorSignature


@dataclass(frozen=True, slots=True, kw_only=True)
class PersistRevealed:
    """Write to disk that shares were revealed for this digest, before the next effect."""

    survivor_digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class SendReveal:
    """Send the revealed shares."""

    shares: RevealedShares


Effect = Advertise | SendShares | Mask | Upload | SignSurvivors | PersistRevealed | SendReveal
