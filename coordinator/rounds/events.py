"""What a round can hear. Every event carries the time at which it happened, in seconds since the epoch."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.rounds.results import NewVersion, SummedRound
from coordinator.rounds.states import RoundState
from ravan.ids import Digest, SiteId
from ravan.manifest.documents import SignedDocument
from ravan.manifest.instructions import RoundRef
from ravan.manifest.phases import DropReason, RoundOutcome
from ravan.secagg.messages import KeyAdvertisement, MaskedHeader, RevealedShares, SealedShares, SurvivorSignature

SiteMessage = KeyAdvertisement | SealedShares | SurvivorSignature | RevealedShares
"""What a site sends of secure aggregation, uploads apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundBegun:
    """The assignment is signed and stored."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageReceived:
    """A site sent a message; the site is the certificate's."""

    at: float
    site: SiteId
    reference: RoundRef
    index: int
    """Member index that the message claims to be from."""
    message: SiteMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadAnnounced:
    """A site is about to send its masked vector."""

    at: float
    site: SiteId
    reference: RoundRef
    header: MaskedHeader


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadArrived:
    """A masked vector is staged whole, with the header's size and hash."""

    at: float
    site: SiteId
    reference: RoundRef
    header: MaskedHeader


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteGone:
    """A site left the round, broke its rules, or was lost."""

    at: float
    site: SiteId
    reason: DropReason


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlinePassed:
    """The time of a state is up; ignored when the round has gone on in the meantime."""

    at: float
    state: RoundState


@dataclass(frozen=True, slots=True, kw_only=True)
class RostersSigned:
    """The rosters have their signatures."""

    at: float
    signed: tuple[tuple[SignedDocument, Digest], ...]
    """In the order of the rosters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmaskDone:
    """The worker removed the masks."""

    at: float
    summed: SummedRound


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationDone:
    """The worker made and measured a new version."""

    at: float
    version: NewVersion
    refusal: str = ""
    """Why the job's gate refuses it; empty where it may pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkFailed:
    """A worker gave up; no new version comes of this round."""

    at: float
    outcome: RoundOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequested:
    """An operator stopped the job, or the coordinator found the round interrupted."""

    at: float
    outcome: RoundOutcome = RoundOutcome.STOPPED


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundResumed:
    """A coordinator that was down takes the round up again; sites need until then to come back."""

    at: float
    until: float
    """Seconds since the epoch; a state whose time would be up before gets so much."""


Event = (
    RoundBegun
    | MessageReceived
    | UploadAnnounced
    | UploadArrived
    | SiteGone
    | DeadlinePassed
    | RostersSigned
    | UnmaskDone
    | EvaluationDone
    | WorkFailed
    | StopRequested
    | RoundResumed
)
