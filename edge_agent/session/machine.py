"""Decide what to do with each instruction: one round at a time, each at most once, nothing unasked. Pure.

The coordinator may repeat any instruction after a broken line, and a new process is told what still
holds for the old one. So the machine follows an instruction only when it is the next step of the
round that this process is in; it repeats a signature or a reveal of the same set, refuses what does
not fit the prepared plan, and ignores the rest. A round that an earlier process had begun is left unless
that one wrote it down: then its instructions wait until the job is prepared again, and are followed from the
first, each answered as it was before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum

from edge_agent.session.acceptance import SiteTerms, check_plan, find_own_index
from edge_agent.session.effects import (
    CloseRound,
    DealShares,
    Effect,
    ForgetJob,
    KeepHead,
    Leave,
    MeetMembers,
    Note,
    RememberRound,
    ReportProfile,
    RevealShares,
    SignSurvivorSet,
    StartPreparation,
    StartTraining,
    UploadMasked,
)
from edge_agent.session.events import (
    AssignmentReceived,
    Event,
    InstructionRefused,
    PlanReceived,
    PreparationFailed,
    Prepared,
    RosterReceived,
    RoundFailed,
    StopRequested,
    TimelineChanged,
)
from edge_agent.session.left_round import LeftRound
from ravan.errors import RavanError
from ravan.ids import Digest, RunId
from ravan.manifest.assignment import Assignment
from ravan.manifest.instructions import ConfirmSurvivors, JobEnded, MaskAndUpload, Reveal, RoundRef, RoundResult
from ravan.manifest.phases import DropReason
from ravan.manifest.plan import JobPlan

Effects = tuple[Effect, ...]


class Stage(IntEnum):
    """Latest instruction of the round that was taken."""

    TRAIN = 0
    SHARE = 1
    UPLOAD = 2
    CONFIRM = 3
    REVEAL = 4


@dataclass(slots=True, kw_only=True)
class _ActiveRound:
    assignment: Assignment
    digest: Digest
    stage: Stage = Stage.TRAIN
    roster_digest: Digest | None = None

    @property
    def reference(self) -> RoundRef:
        return RoundRef(
            run_id=self.assignment.run_id,
            round_number=self.assignment.round_number,
            assignment_digest=self.digest,
            roster_digest=self.roster_digest or Digest(b""),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Preparation:
    plan: JobPlan
    digest: Digest


class SessionMachine:
    """Take events, return effects; the shell runs them in order."""

    def __init__(self, terms: SiteTerms, highest_rounds: Mapping[RunId, int], left: RoundRef | None = None) -> None:
        """Take what this site agrees to, the highest round of each run that it ever took part in, and where it goes on.

        `left` is the round that an earlier process was in and has written down.
        """
        self._terms = terms
        self._highest = dict(highest_rounds)
        self._prepared: dict[Digest, JobPlan] = {}
        self._waiting: list[_Preparation] = []
        self._preparing: _Preparation | None = None
        self._round: _ActiveRound | None = None
        self._handled: set[Digest] = set()
        self._stopping = False
        self._left = LeftRound(left)

    @property
    def active_round(self) -> RoundRef | None:
        """Return the round that this site is in."""
        return self._round.reference if self._round is not None else None

    def handle(self, event: Event) -> Effects:  # noqa: C901, PLR0911, PLR0912 - one line a kind
        """Take one event."""
        if self._stopping:
            return ()
        if not isinstance(event, AssignmentReceived) and self._left.hold(event):
            return ()
        match event:
            case PlanReceived():
                return self._plan(event)
            case AssignmentReceived():
                return self._assignment(event)
            case RosterReceived():
                return self._roster(event)
            case MaskAndUpload():
                return self._delivery(event)
            case ConfirmSurvivors():
                return self._survivors(event)
            case Reveal():
                return self._reveal(event)
            case RoundResult():
                return self._result(event)
            case JobEnded():
                return self._job_ended(event)
            case Prepared():
                return self._prepared_now(event)
            case PreparationFailed():
                return self._preparation_failed(event)
            case RoundFailed():
                return self._round_failed(event)
            case InstructionRefused():
                return self._instruction_refused()
            case TimelineChanged():
                return self._start_over()
            case StopRequested():
                return self._stop()

    def _plan(self, event: PlanReceived) -> Effects:
        try:
            check_plan(event.plan, self._terms)
        except RavanError as error:
            leave = Leave(job_id=event.plan.job_id, round_number=0, reason=DropReason.REFUSED)
            return _note(error), leave
        known = [*self._waiting, *([self._preparing] if self._preparing else [])]
        if all(each.digest != event.digest for each in known):
            self._waiting.append(_Preparation(plan=event.plan, digest=event.digest))
        return self._prepare_next()

    def _prepare_next(self) -> Effects:
        """Begin the next preparation unless this PC has something to do."""
        if self._round is not None or self._preparing is not None or not self._waiting:
            return ()
        self._preparing = self._waiting.pop(0)
        return (StartPreparation(plan=self._preparing.plan, digest=self._preparing.digest),)

    def _prepared_now(self, event: Prepared) -> Effects:
        if self._preparing is None or self._preparing.digest != event.digest:
            return ()
        plan, self._preparing = self._preparing.plan, None
        self._prepared[event.digest] = plan
        return ReportProfile(job_id=plan.job_id, profile=event.profile), *self._go_on(), *self._prepare_next()

    def _go_on(self) -> Effects:
        """Follow what was held for the round that was left, if its job is prepared now."""
        held = self._left.held
        if held is None or self._is_awaited(held.plan_digest):
            return ()
        return tuple(effect for event in self._left.release() for effect in self.handle(event))

    def _is_awaited(self, plan_digest: Digest) -> bool:
        waiting = [*self._waiting, *([self._preparing] if self._preparing else [])]
        return any(each.digest == plan_digest for each in waiting)

    def _preparation_failed(self, event: PreparationFailed) -> Effects:
        if self._preparing is None or self._preparing.digest != event.digest:
            return ()
        plan, self._preparing = self._preparing.plan, None
        self._prepared.pop(event.digest, None)
        leave = Leave(job_id=plan.job_id, round_number=0, reason=event.reason)
        return leave, *self._go_on(), *self._prepare_next()

    def _assignment(self, event: AssignmentReceived) -> Effects:
        if event.digest in self._handled:
            return ()
        goes_on = self._left.begins_with(event.digest)
        if goes_on and self._is_awaited(event.assignment.plan_digest) and self._left.hold(event):
            return ()
        self._handled.add(event.digest)
        return self._refuse_number(event.assignment, goes_on=goes_on) or self._join(event, goes_on=goes_on)

    def _refuse_number(self, assignment: Assignment, *, goes_on: bool) -> Effects:
        """Leave a round that is not after all others, unless this site goes on with it."""
        number, highest = assignment.round_number, self._highest.get(assignment.run_id, 0)
        if number < highest:
            sentence = f"Round {number} is refused: this site has taken part in round {highest}, and rounds only go on."
            next_step = "Ask HQ whether the coordinator was set back to an older backup; its job must begin anew then."
            return Note(sentence=sentence, next_step=next_step), _leave(assignment, DropReason.REFUSED)
        if number == highest and not goes_on:
            sentence = f"This site took part in round {number} already; it waits for the next."
            return Note(sentence=sentence), _leave(assignment, DropReason.RESTARTED)
        return ()

    def _join(self, event: AssignmentReceived, *, goes_on: bool) -> Effects:
        assignment = event.assignment
        plan = self._prepared.get(assignment.plan_digest)
        if plan is None:
            sentence = f"Round {assignment.round_number} is for a job that this site has not prepared."
            return Note(sentence=sentence), *self._left.drop(), _leave(assignment, DropReason.REFUSED)
        superseded = self._supersede(assignment)
        if superseded is None:
            sentence = f"Round {assignment.round_number} of job {assignment.job_id} came while this site is in another."
            return Note(sentence=sentence), _leave(assignment, DropReason.REFUSED)
        if goes_on:
            self._left.take_up()
        return *superseded, *self._left.drop(), *self._accept(event, plan)

    def _supersede(self, assignment: Assignment) -> Effects | None:
        """Close an older round of the same run; return None when this site is in a round of another run."""
        if self._round is None:
            return ()
        return self._close() if self._round.assignment.run_id == assignment.run_id else None

    def _accept(self, event: AssignmentReceived, plan: JobPlan) -> Effects:
        assignment = event.assignment
        try:
            index = find_own_index(assignment, plan, assignment.plan_digest, self._terms)
        except RavanError as error:
            return _note(error), _leave(assignment, DropReason.REFUSED)
        self._highest[assignment.run_id] = assignment.round_number
        self._round = _ActiveRound(assignment=assignment, digest=event.digest)
        return (
            MeetMembers(members=tuple(member for member in assignment.members if member.index != index)),
            RememberRound(round=self._round.reference),
            StartTraining(plan=plan, assignment=assignment, digest=event.digest, index=index),
        )

    def _roster(self, event: RosterReceived) -> Effects:
        now = self._round
        if now is None or event.roster.assignment_digest != now.digest or now.stage is not Stage.TRAIN:
            return ()
        now.stage, now.roster_digest = Stage.SHARE, event.digest
        return (DealShares(round=now.reference, roster=event.roster),)

    def _delivery(self, event: MaskAndUpload) -> Effects:
        if not self._advances(event.round, Stage.UPLOAD):
            return ()
        return (UploadMasked(round=event.round, delivery=event.delivery),)

    def _survivors(self, event: ConfirmSurvivors) -> Effects:
        if not self._advances(event.round, Stage.CONFIRM):
            return ()
        return (SignSurvivorSet(round=event.round, survivors=event.survivors),)

    def _reveal(self, event: Reveal) -> Effects:
        if not self._advances(event.round, Stage.REVEAL):
            return ()
        return (RevealShares(round=event.round, request=event.request),)

    def _advances(self, reference: RoundRef, stage: Stage) -> bool:
        """Go to `stage` when it is the next one, or one whose answer may be given again."""
        now = self._round
        if now is None or reference != now.reference:
            return False
        again = stage >= Stage.CONFIRM and now.stage >= stage
        if not again and stage != now.stage + 1:
            return False
        now.stage = max(now.stage, stage)
        return True

    def _result(self, event: RoundResult) -> Effects:
        return *_head_told_by(event), *self._end_round(event)

    def _end_round(self, event: RoundResult) -> Effects:
        if self._left.ends_with(event):
            return self._left.drop()
        now = self._round
        if now is None or (now.assignment.run_id, now.assignment.round_number) != (event.run_id, event.round_number):
            return ()
        self._round = None
        return CloseRound(assignment_digest=now.digest, outcome=event.outcome), *self._prepare_next()

    def _round_failed(self, event: RoundFailed) -> Effects:
        now = self._round
        if now is None or now.digest != event.assignment_digest:
            return ()
        short_for = now.assignment.plan_digest if event.reason is DropReason.MEMORY else None
        leave = replace(_leave(now.assignment, event.reason), suspect=event.suspect, short_for=short_for)
        return *self._close(), leave, *self._prepare_next()

    def _instruction_refused(self) -> Effects:
        leave = Leave(job_id=None, round_number=0, reason=DropReason.PROTOCOL)
        return *self._close(), *self._left.drop(), leave, *self._prepare_next()

    def _close(self) -> Effects:
        closed, self._round = self._round, None
        return (CloseRound(assignment_digest=closed.digest, outcome=None),) if closed is not None else ()

    def _job_ended(self, event: JobEnded) -> Effects:
        effects: Effects = ()
        if self._round is not None and self._round.assignment.job_id == event.job_id:
            effects += self._close()
        if self._left.belongs_to(event.job_id):
            effects += self._left.drop()
        forgotten = self._forget(lambda plan: plan.job_id == event.job_id)
        return *effects, *forgotten, *self._prepare_next()

    def _start_over(self) -> Effects:
        """Drop the round and all jobs without a word: what is left of them, the coordinator offers anew."""
        return *self._close(), *self._left.drop(), *self._forget(lambda _: True)

    def _forget(self, over: Callable[[JobPlan], bool]) -> Effects:
        ended = [digest for digest, plan in self._prepared.items() if over(plan)]
        if self._preparing is not None and over(self._preparing.plan):
            ended.append(self._preparing.digest)
            self._preparing = None
        for digest in ended:
            self._prepared.pop(digest, None)
        self._waiting = [each for each in self._waiting if not over(each.plan)]
        return tuple(ForgetJob(plan_digest=digest) for digest in dict.fromkeys(ended))

    def _stop(self) -> Effects:
        self._stopping = True
        now = self._round
        if now is not None:
            return *self._close(), _leave(now.assignment, DropReason.LEFT)
        held = self._left.held
        return *self._left.drop(), *([_leave(held, DropReason.LEFT)] if held is not None else [])


def _head_told_by(event: RoundResult) -> Effects:
    if not event.audit_head:
        return ()
    told = KeepHead(
        run_id=event.run_id,
        round_number=event.round_number,
        sequence=event.audit_sequence,
        head=event.audit_head,
    )
    return (told,)


def _leave(assignment: Assignment, reason: DropReason) -> Leave:
    return Leave(job_id=assignment.job_id, round_number=assignment.round_number, reason=reason)


def _note(error: RavanError) -> Note:
    return Note(sentence=str(error), next_step=error.next_step)
