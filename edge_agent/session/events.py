"""What happens to an agent: verified instructions and the outcomes of its own work."""

from __future__ import annotations

from dataclasses import dataclass

from ravan.ids import Digest
from ravan.manifest.assignment import Assignment
from ravan.manifest.instructions import ConfirmSurvivors, JobEnded, MaskAndUpload, Reveal, RoundResult
from ravan.manifest.phases import DropReason
from ravan.manifest.plan import JobPlan
from ravan.manifest.profile import JobProfile
from ravan.manifest.roster import Roster


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanReceived:
    """A plan under the coordinator's signature: get ready for it."""

    plan: JobPlan
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentReceived:
    """An assignment under the coordinator's signature: train."""

    assignment: Assignment
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class RosterReceived:
    """A roster under the coordinator's signature: exchange shares."""

    roster: Roster
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The model of a plan is here and measured."""

    digest: Digest
    profile: JobProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationFailed:
    """This site cannot take part in a plan's job."""

    digest: Digest
    reason: DropReason


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundFailed:
    """A step of a round could not be done."""

    assignment_digest: Digest
    reason: DropReason
    suspect: int | None = None
    """Member whose shares could not be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionRefused:
    """The coordinator sent something without a valid signature or form; nothing of it was looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineChanged:
    """The coordinator was put back to a backup: it knows nothing of the round and the jobs of this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequested:
    """The agent is asked to end."""


Event = (
    PlanReceived
    | AssignmentReceived
    | RosterReceived
    | MaskAndUpload
    | ConfirmSurvivors
    | Reveal
    | RoundResult
    | JobEnded
    | Prepared
    | PreparationFailed
    | RoundFailed
    | InstructionRefused
    | TimelineChanged
    | StopRequested
)
