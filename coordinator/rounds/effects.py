"""What a round asks its shell to do, in order; a shell does nothing else on its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.rounds.results import NewVersion, SummedRound
from coordinator.rounds.states import RoundState
from ravan.ids import SiteId
from ravan.manifest.instructions import Instruction
from ravan.manifest.phases import DropReason, RoundOutcome, RoundPhase
from ravan.manifest.roster import Roster

if TYPE_CHECKING:
    from ravan.secagg.unmask import UnmaskJob


@dataclass(frozen=True, slots=True, kw_only=True)
class SendInstruction:
    """Append an instruction to a site's stream."""

    site: SiteId
    instruction: Instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class SetDeadline:
    """Report `DeadlinePassed(state)` after this time instead of any earlier one; None: the state has no deadline.

    It is a length of time, so that a clock which is set between event and effect moves no deadline.
    """

    state: RoundState
    after_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignRosters:
    """Serialise and sign the roster of each group, then report `RostersSigned`."""

    rosters: tuple[Roster, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunUnmask:
    """Unmask the staged payloads of each group in a worker, then report `UnmaskDone` or `WorkFailed`."""

    jobs: tuple[UnmaskJob, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CombineAndEvaluate:
    """Make and measure the new version in workers, then report `EvaluationDone` or `WorkFailed`."""

    summed: SummedRound


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """Make this version the job's newest, in the same transaction as the round's end."""

    version: NewVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordDrop:
    """Note that a site is out, and forget what it was still to be told of this round."""

    site: SiteId
    phase: RoundPhase
    reason: DropReason


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseClosed:
    """Tell logs and metrics how long a phase took."""

    phase: RoundPhase
    ended_at: float
    seconds: float
    sites: int
    """Sites still in the round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndRound:
    """The round is over; release its sites and its staged uploads."""

    outcome: RoundOutcome
    detail: str
    """One sentence on why, empty when committed."""


Effect = (
    SendInstruction
    | SetDeadline
    | SignRosters
    | RunUnmask
    | CombineAndEvaluate
    | Commit
    | RecordDrop
    | PhaseClosed
    | EndRound
)
