"""What the session's machine asks its shell to do, in order."""

from __future__ import annotations

from dataclasses import dataclass

from ravan.ids import Digest, JobId, RunId
from ravan.manifest.assignment import Assignment, Member
from ravan.manifest.instructions import RoundRef
from ravan.manifest.phases import DropReason, RoundOutcome
from ravan.manifest.plan import JobPlan
from ravan.manifest.profile import JobProfile
from ravan.manifest.roster import Roster
from ravan.secagg.messages import RevealRequest, ShareDelivery, SurvivorSet


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPreparation:
    """Check the data, fetch and measure the model; then say Prepared or PreparationFailed."""

    plan: JobPlan
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportProfile:
    """Report a job's measured cost; the coordinator may send a round as soon as it has it."""

    job_id: JobId
    profile: JobProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class MeetMembers:
    """Compare the others' keys with those remembered and write newcomers to disk, before the next effect."""

    members: tuple[Member, ...]
    """All but this site itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberRound:
    """Write to disk that this site takes part in a round, and with which secrets, before the next effect."""

    round: RoundRef
    """As before its roster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTraining:
    """Fetch the model version, train, advertise round keys."""

    plan: JobPlan
    assignment: Assignment
    digest: Digest
    index: int

    @property
    def round(self) -> RoundRef:
        """Return the round as before its roster."""
        return RoundRef(
            run_id=self.assignment.run_id,
            round_number=self.assignment.round_number,
            assignment_digest=self.digest,
            roster_digest=Digest(b""),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DealShares:
    """Check the roster and send sealed shares."""

    round: RoundRef
    roster: Roster


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadMasked:
    """Mask the update with the dealers' keys and send it."""

    round: RoundRef
    delivery: ShareDelivery


@dataclass(frozen=True, slots=True, kw_only=True)
class SignSurvivorSet:
    """Check the survivor set and send the signature."""

    round: RoundRef
    survivors: SurvivorSet


@dataclass(frozen=True, slots=True, kw_only=True)
class RevealShares:
    """Check the signatures and send the shares."""

    round: RoundRef
    request: RevealRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepHead:
    """Write down the head of the coordinator's audit chain, as a witness."""

    run_id: RunId
    round_number: int
    sequence: int
    head: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseRound:
    """Give up what is still being done for the round, and drop its secrets and files."""

    assignment_digest: Digest
    outcome: RoundOutcome | None
    """None when this site left it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """Tell the coordinator that this site leaves a round, or with round 0 cannot prepare the job."""

    job_id: JobId | None
    """None for whatever the coordinator's last instruction was about."""
    round_number: int
    reason: DropReason
    suspect: int | None = None
    """Member whose shares could not be used."""
    short_for: Digest | None = None
    """Plan for which memory was short: the limits and the job's cost of now are reported first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetJob:
    """Give up preparing the plan if that is going on, and drop its model from memory."""

    plan_digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Tell whoever reads the log why an instruction was not followed."""

    sentence: str
    next_step: str = ""


Effect = (
    StartPreparation
    | ReportProfile
    | MeetMembers
    | RememberRound
    | StartTraining
    | DealShares
    | UploadMasked
    | SignSurvivorSet
    | RevealShares
    | KeepHead
    | CloseRound
    | Leave
    | ForgetJob
    | Note
)
