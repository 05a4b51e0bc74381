"""The session's machine: every instruction in and out of turn."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from session_steps import (
    ENDED,
    LEFT,
    OTHER_DIGEST,
    OTHER_PLAN,
    PLAN,
    PREPARE,
    STEPS,
    SURVIVORS,
    TERMS,
    assignment,
    delivery,
    digest_of,
    kinds,
    prepared_now,
    profile_of,
    reference,
    result,
    reveal,
    roster,
    survivors,
    train,
)
from tiny_jobs import PLAN_DIGEST

from edge_agent.session.acceptance import SiteTerms, find_own_index
from edge_agent.session.effects import (
    CloseRound,
    DealShares,
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
    RoundFailed,
    StopRequested,
    TimelineChanged,
)
from edge_agent.session.ledger import RoundLedger
from edge_agent.session.machine import SessionMachine
from ravan.codec.documents import model_digest
from ravan.errors import ProtocolError, StateError
from ravan.identity.endorsement import endorse
from ravan.ids import Digest, JobId, RunId, SiteId
from ravan.manifest.assignment import Member
from ravan.manifest.phases import DropReason, RoundOutcome


def machine(highest: dict[RunId, int] | None = None, terms: SiteTerms = TERMS) -> SessionMachine:
    return SessionMachine(terms, highest or {})


def prepared(highest: dict[RunId, int] | None = None, terms: SiteTerms = TERMS) -> SessionMachine:
    made = machine(highest, terms)
    made.handle(PREPARE)
    made.handle(prepared_now(PLAN_DIGEST))
    return made


def in_round(steps: int) -> SessionMachine:
    """A machine that has taken the first `steps` instructions of round 1."""
    made = prepared()
    for event in STEPS[:steps]:
        assert made.handle(event)
    return made


def test_a_whole_round() -> None:
    made = machine()
    assert made.handle(PREPARE) == (StartPreparation(plan=PLAN, digest=PLAN_DIGEST),)
    report = ReportProfile(job_id=PLAN.job_id, profile=profile_of(PLAN_DIGEST))
    assert made.handle(prepared_now(PLAN_DIGEST)) == (report,)
    assert made.handle(train()) == (
        MeetMembers(members=assignment().members[1:]),
        RememberRound(round=LEFT),
        StartTraining(plan=PLAN, assignment=assignment(), digest=digest_of(1), index=0),
    )
    assert made.handle(roster()) == (DealShares(round=reference(), roster=roster().roster),)
    assert made.handle(delivery()) == (UploadMasked(round=reference(), delivery=delivery().delivery),)
    assert made.handle(survivors()) == (SignSurvivorSet(round=reference(), survivors=SURVIVORS),)
    assert made.handle(reveal()) == (RevealShares(round=reference(), request=reveal().request),)
    assert made.handle(result()) == (CloseRound(assignment_digest=digest_of(1), outcome=RoundOutcome.COMMITTED),)
    assert made.active_round is None
    assert kinds(made.handle(train(2))) == [MeetMembers, RememberRound, StartTraining]


def test_the_head_of_the_coordinator_s_log_is_kept_whether_the_round_is_this_site_s_or_not() -> None:
    made = machine()
    told = dataclasses.replace(result(), audit_sequence=9, audit_head=digest_of(9))
    kept = KeepHead(run_id=told.run_id, round_number=1, sequence=9, head=digest_of(9))
    assert made.handle(told) == (kept,)
    made.handle(PREPARE)
    made.handle(prepared_now(PLAN_DIGEST))
    made.handle(train())
    assert made.handle(told) == (kept, CloseRound(assignment_digest=digest_of(1), outcome=RoundOutcome.COMMITTED))


@pytest.mark.parametrize("taken", range(1, 6))
@pytest.mark.parametrize("event", range(6))
def test_steps_out_of_turn_do_nothing(taken: int, event: int) -> None:
    effects = in_round(taken).handle(STEPS[event])
    if event in (taken, 5):
        assert effects  # the next step, or the end, which may come at any time
    elif event in (3, 4) and event < taken:
        assert kinds(effects) == [(SignSurvivorSet, RevealShares)[event - 3]]  # the same answer again
    else:
        assert effects == ()


@pytest.mark.parametrize("event", [roster(2), delivery(2), survivors(2), reveal(2), result(2)])
@pytest.mark.parametrize("taken", range(6))
def test_steps_of_another_round_do_nothing(taken: int, event: Event) -> None:
    assert in_round(taken).handle(event) == ()


def test_a_result_of_another_run_does_not_end_the_round() -> None:
    made = in_round(2)
    assert made.handle(result(run_id=RunId(bytes(16)))) == ()
    assert made.active_round is not None


def test_a_plan_that_was_not_prepared() -> None:
    effects = machine().handle(train())
    assert kinds(effects) == [Note, Leave]
    assert effects[-1] == Leave(job_id=PLAN.job_id, round_number=1, reason=DropReason.REFUSED)


def test_a_round_of_an_earlier_process_is_left() -> None:
    effects = prepared({PLAN.run_id: 4}).handle(train(4))
    assert effects[-1] == Leave(job_id=PLAN.job_id, round_number=4, reason=DropReason.RESTARTED)


def test_older_rounds_are_refused_and_newer_ones_taken() -> None:
    made = prepared({PLAN.run_id: 4})
    note, leave = made.handle(train(3))
    assert isinstance(note, Note)
    assert "round 4" in note.sentence
    assert "backup" in note.next_step
    assert leave == Leave(job_id=PLAN.job_id, round_number=3, reason=DropReason.REFUSED)
    assert made.handle(train(3)) == ()
    assert kinds(made.handle(train(5))) == [MeetMembers, RememberRound, StartTraining]


def test_a_replayed_round_leaves_the_one_that_runs_as_it_is() -> None:
    made = prepared()
    made.handle(train(2))
    assert kinds(made.handle(train(1))) == [Note, Leave]
    assert made.active_round is not None
    assert made.active_round.round_number == 2
    assert made.handle(roster(2))


def test_other_settings_than_those_that_were_prepared_are_refused() -> None:
    """The coordinator signs another plan under the job's name, with more steps, and never shows it for approval."""
    made = prepared()
    changed = Digest(hashlib.sha256(b"the same plan with other settings").digest())
    effects = made.handle(train(plan_digest=changed))
    assert kinds(effects) == [Note, Leave]
    assert effects[-1] == Leave(job_id=PLAN.job_id, round_number=1, reason=DropReason.REFUSED)
    assert made.active_round is None
    assert kinds(made.handle(train(2))) == [MeetMembers, RememberRound, StartTraining]


def test_a_round_is_never_taken_twice() -> None:
    made = in_round(6)
    assert made.handle(train()) == ()


def test_another_assignment_of_the_same_number_is_left() -> None:
    made = in_round(6)
    again = AssignmentReceived(assignment=assignment(), digest=digest_of(99))
    assert made.handle(again)[-1] == Leave(job_id=PLAN.job_id, round_number=1, reason=DropReason.RESTARTED)


def test_a_newer_round_of_the_run_supersedes() -> None:
    made = in_round(3)
    assert kinds(made.handle(train(2))) == [CloseRound, MeetMembers, RememberRound, StartTraining]
    assert made.active_round is not None
    assert made.active_round.round_number == 2


def test_a_round_of_another_job_waits_for_nobody() -> None:
    made = prepared()
    made.handle(PlanReceived(plan=OTHER_PLAN, digest=OTHER_DIGEST))
    made.handle(prepared_now(OTHER_DIGEST))
    made.handle(train())
    other = train(7, run_id=OTHER_PLAN.run_id, job_id=OTHER_PLAN.job_id, plan_digest=OTHER_DIGEST)
    assert made.handle(other)[-1] == Leave(job_id=OTHER_PLAN.job_id, round_number=7, reason=DropReason.REFUSED)
    assert made.active_round is not None
    assert made.active_round.round_number == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"run_id": RunId(bytes(16))},
        {"job_id": JobId("someone-else")},
        {"model_digest": Digest(bytes(32))},
        {"blocks": assignment().blocks[1:]},
        {"blocks": (dataclasses.replace(assignment().blocks[0], length=5), *assignment().blocks[1:])},
        {"bundle_threshold": 2},
        {"ring_bits": 20},
        {"members": assignment().members[1:]},
        {"members": (dataclasses.replace(assignment().members[0], identity_key=bytes(32)), *assignment().members[1:])},
        {"members": (dataclasses.replace(assignment().members[0], site=SiteId("x")), *assignment().members[1:])},
    ],
    ids="-".join,
)
def test_an_assignment_that_does_not_fit_is_refused(changes: dict[str, Any]) -> None:
    made = prepared()
    effects = made.handle(train(**changes))
    assert kinds(effects) == [Note, Leave]
    assert isinstance(effects[-1], Leave)
    assert effects[-1].reason is DropReason.REFUSED
    assert made.active_round is None


OWNER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ASKS_FOR_ENDORSEMENTS = dataclasses.replace(TERMS, owner_key=OWNER.public_key().public_bytes_raw())


def endorsed_members(*but: int, owner: Ed25519PrivateKey = OWNER) -> tuple[Member, ...]:
    return tuple(
        member
        if member.index in but
        else dataclasses.replace(member, endorsement=endorse(owner, member.site, member.identity_key))
        for member in assignment().members
    )


def test_with_an_owners_key_a_round_of_endorsed_members_is_accepted() -> None:
    made = prepared(terms=ASKS_FOR_ENDORSEMENTS)
    assert kinds(made.handle(train(members=endorsed_members())))[-1] is StartTraining


@pytest.mark.parametrize(
    ("members", "named"),
    [
        (endorsed_members(2), "'site-2'."),
        (endorsed_members(0, 1), "'site-0' and 1 more"),
        (endorsed_members(owner=Ed25519PrivateKey.generate()), "'site-0' and 2 more"),
    ],
    ids=["one missing", "also the own", "another owner's"],
)
def test_with_an_owners_key_a_member_that_is_not_endorsed_is_refused(members: tuple[Member, ...], named: str) -> None:
    made = prepared(terms=ASKS_FOR_ENDORSEMENTS)
    note, leave = made.handle(train(members=members))
    assert isinstance(note, Note)
    assert named in note.sentence
    assert "ravan-coordinator site endorse" in note.next_step
    assert isinstance(leave, Leave)
    assert leave.reason is DropReason.REFUSED


def test_without_an_owners_key_nobody_asks() -> None:
    assert kinds(prepared().handle(train(members=endorsed_members(1))))[-1] is StartTraining


def test_an_assignment_for_another_plan_is_refused() -> None:
    with pytest.raises(ProtocolError, match="another plan"):
        find_own_index(assignment(), PLAN, OTHER_DIGEST, TERMS)


@pytest.mark.parametrize(
    "terms",
    [
        {"allowed_jobs": frozenset({"paint"})},
        {"allowed_models": frozenset({"00" * 32})},
        {"minimum_steps": PLAN.training.steps + 1},
    ],
)
def test_policy_refuses_at_preparation(terms: dict[str, Any]) -> None:
    effects = machine(terms=dataclasses.replace(TERMS, **terms)).handle(PREPARE)
    assert kinds(effects) == [Note, Leave]
    assert effects[-1] == Leave(job_id=PLAN.job_id, round_number=0, reason=DropReason.REFUSED)


@pytest.mark.parametrize("name", ["adapter_config.json", "modeling_tiny.py", "pytorch_model.bin", "config.json.part"])
def test_a_model_with_a_strange_file_is_refused_at_preparation(name: str) -> None:
    files = (*PLAN.model_files, dataclasses.replace(PLAN.model_files[0], path=name))
    plan = dataclasses.replace(PLAN, model_files=files)
    effects = machine().handle(PlanReceived(plan=plan, digest=PLAN_DIGEST))
    assert kinds(effects) == [Note, Leave]
    assert isinstance(effects[0], Note)
    assert repr(name) in effects[0].sentence


def test_policy_allows_what_it_names() -> None:
    terms = dataclasses.replace(
        TERMS,
        allowed_jobs=frozenset({PLAN.job_name}),
        allowed_models=frozenset({model_digest(PLAN.model_files).hex()}),
        minimum_steps=PLAN.training.steps,
    )
    assert kinds(machine(terms=terms).handle(PREPARE)) == [StartPreparation]


def test_a_site_s_own_threshold_refuses_a_round() -> None:
    made = machine(terms=dataclasses.replace(TERMS, minimum_bundle_threshold=4))
    made.handle(PREPARE)
    made.handle(prepared_now(PLAN_DIGEST))
    effects = made.handle(train())
    assert isinstance(effects[0], Note)
    assert "4 or more" in effects[0].sentence


def test_one_preparation_at_a_time_and_each_once() -> None:
    made = machine()
    assert kinds(made.handle(PREPARE)) == [StartPreparation]
    assert made.handle(PREPARE) == ()
    other = PlanReceived(plan=OTHER_PLAN, digest=OTHER_DIGEST)
    assert made.handle(other) == ()
    assert made.handle(other) == ()
    assert kinds(made.handle(prepared_now(PLAN_DIGEST))) == [ReportProfile, StartPreparation]
    assert kinds(made.handle(prepared_now(OTHER_DIGEST))) == [ReportProfile]
    assert made.handle(prepared_now(OTHER_DIGEST)) == ()


def test_a_prepared_plan_is_reported_again_when_asked_again() -> None:
    made = prepared()
    assert kinds(made.handle(PREPARE)) == [StartPreparation]
    # Meanwhile it is still prepared.
    assert kinds(made.handle(train())) == [MeetMembers, RememberRound, StartTraining]


def test_preparation_waits_for_the_end_of_a_round() -> None:
    made = in_round(1)
    assert made.handle(PlanReceived(plan=OTHER_PLAN, digest=OTHER_DIGEST)) == ()
    assert kinds(made.handle(result())) == [CloseRound, StartPreparation]


def test_a_failed_preparation_leaves_and_the_next_begins() -> None:
    made = machine()
    made.handle(PREPARE)
    made.handle(PlanReceived(plan=OTHER_PLAN, digest=OTHER_DIGEST))
    effects = made.handle(PreparationFailed(digest=PLAN_DIGEST, reason=DropReason.DATA))
    assert effects[0] == Leave(job_id=PLAN.job_id, round_number=0, reason=DropReason.DATA)
    assert kinds(effects) == [Leave, StartPreparation]
    assert kinds(made.handle(train())) == [Note, Leave]


@pytest.mark.parametrize("taken", range(1, 6))
def test_a_failed_step_leaves_the_round(taken: int) -> None:
    made = in_round(taken)
    effects = made.handle(RoundFailed(assignment_digest=digest_of(1), reason=DropReason.MEMORY))
    assert effects == (
        CloseRound(assignment_digest=digest_of(1), outcome=None),
        Leave(job_id=PLAN.job_id, round_number=1, reason=DropReason.MEMORY, short_for=PLAN_DIGEST),
    )
    assert made.handle(RoundFailed(assignment_digest=digest_of(1), reason=DropReason.MEMORY)) == ()


def test_a_suspect_is_named_to_the_coordinator() -> None:
    failed = RoundFailed(assignment_digest=digest_of(1), reason=DropReason.PROTOCOL, suspect=3)
    leave = in_round(3).handle(failed)[-1]
    assert leave == Leave(job_id=PLAN.job_id, round_number=1, reason=DropReason.PROTOCOL, suspect=3)


@pytest.mark.parametrize("taken", range(1, 6))
def test_an_instruction_that_cannot_be_read_ends_the_round(taken: int) -> None:
    made = in_round(taken)
    made.handle(PlanReceived(plan=OTHER_PLAN, digest=OTHER_DIGEST))
    closed, left, following = made.handle(InstructionRefused())
    assert closed == CloseRound(assignment_digest=digest_of(1), outcome=None)
    assert left == Leave(job_id=None, round_number=0, reason=DropReason.PROTOCOL)
    assert isinstance(following, StartPreparation)
    assert made.active_round is None


def test_an_instruction_that_cannot_be_read_is_refused_without_a_round_too() -> None:
    made = prepared()
    assert made.handle(InstructionRefused()) == (Leave(job_id=None, round_number=0, reason=DropReason.PROTOCOL),)
    assert kinds(made.handle(train())) == [MeetMembers, RememberRound, StartTraining]


def test_the_end_of_a_job_forgets_it() -> None:
    made = in_round(2)
    effects = made.handle(ENDED)
    assert effects == (
        CloseRound(assignment_digest=digest_of(1), outcome=None),
        ForgetJob(plan_digest=PLAN_DIGEST),
    )
    assert kinds(made.handle(train(2))) == [Note, Leave]


def test_the_end_of_a_job_calls_its_preparation_off() -> None:
    made = machine()
    made.handle(PREPARE)
    made.handle(PlanReceived(plan=OTHER_PLAN, digest=OTHER_DIGEST))
    assert kinds(made.handle(ENDED)) == [ForgetJob, StartPreparation]
    assert made.handle(PreparationFailed(digest=PLAN_DIGEST, reason=DropReason.INTERNAL)) == ()


@pytest.mark.parametrize("taken", range(1, 6))
def test_a_coordinator_put_back_to_a_backup_ends_every_round_and_job_without_a_word(taken: int) -> None:
    made = in_round(taken)
    assert made.handle(TimelineChanged()) == (
        CloseRound(assignment_digest=digest_of(1), outcome=None),
        ForgetJob(plan_digest=PLAN_DIGEST),
    )
    restored = dataclasses.replace(PLAN, run_id=RunId(b"r" * 16))
    assert kinds(made.handle(PlanReceived(plan=restored, digest=OTHER_DIGEST))) == [StartPreparation]
    assert kinds(made.handle(prepared_now(OTHER_DIGEST))) == [ReportProfile]
    # nothing of the run from before is ever masked again
    assert made.handle(train(1)) == ()
    assert kinds(made.handle(train(2))) == [Note, Leave]


def test_preparations_are_called_off_when_the_coordinator_was_put_back() -> None:
    made = machine()
    made.handle(PREPARE)
    made.handle(PlanReceived(plan=OTHER_PLAN, digest=OTHER_DIGEST))
    assert made.handle(TimelineChanged()) == (ForgetJob(plan_digest=PLAN_DIGEST),)
    assert made.handle(prepared_now(PLAN_DIGEST)) == ()
    assert made.handle(prepared_now(OTHER_DIGEST)) == ()


def test_stopping_leaves_the_round_and_then_nothing_counts() -> None:
    made = in_round(2)
    effects = made.handle(StopRequested())
    assert kinds(effects) == [CloseRound, Leave]
    assert effects[-1] == Leave(job_id=PLAN.job_id, round_number=1, reason=DropReason.LEFT)
    assert all(made.handle(event) == () for event in (*STEPS, PREPARE, StopRequested(), train(2)))


def test_stopping_without_a_round_says_nothing() -> None:
    assert prepared().handle(StopRequested()) == ()


EVENTS = st.sampled_from(
    [
        PREPARE,
        PlanReceived(plan=OTHER_PLAN, digest=OTHER_DIGEST),
        prepared_now(PLAN_DIGEST),
        prepared_now(OTHER_DIGEST),
        PreparationFailed(digest=PLAN_DIGEST, reason=DropReason.DATA),
        ENDED,
        *(make(number) for number in (1, 2, 3) for make in (train, roster, delivery, survivors, reveal, result)),
        *(RoundFailed(assignment_digest=digest_of(number), reason=DropReason.DATA) for number in (1, 2)),
        InstructionRefused(),
        TimelineChanged(),
    ]
)


@settings(max_examples=300)
@given(st.lists(EVENTS, max_size=40))
def test_in_any_order_rounds_rise_and_steps_follow_each_other(events: list[Event]) -> None:
    made = machine()
    trained: list[int] = []
    open_round: Digest | None = None
    order: list[type] = []
    for event in events:
        for effect in made.handle(event):
            match effect:
                case RememberRound():
                    trained.append(effect.round.round_number)
                case StartTraining():
                    assert open_round is None
                    open_round, order = effect.digest, []
                case CloseRound():
                    assert effect.assignment_digest == open_round
                    open_round = None
                case DealShares() | UploadMasked() | SignSurvivorSet() | RevealShares():
                    assert effect.round.assignment_digest == open_round
                    order.append(type(effect))
    assert trained == sorted(set(trained))
    firsts = list(dict.fromkeys(order))
    assert firsts == [DealShares, UploadMasked, SignSurvivorSet, RevealShares][: len(firsts)]
    assert order.count(UploadMasked) <= 1


def test_the_ledger_survives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "rounds.json"
    ledger = RoundLedger(path)
    ledger.remember(PLAN.run_id, 3)
    ledger.remember(PLAN.run_id, 2)
    ledger.remember(OTHER_PLAN.run_id, 1)
    assert RoundLedger(path).rounds == {PLAN.run_id: 3, OTHER_PLAN.run_id: 1}


@pytest.mark.parametrize("content", ["", "[]", '{"zz": 1}', '{"00": "x"}', '{"00": null}'])
def test_a_damaged_ledger_is_not_taken_for_an_empty_one(tmp_path: Path, content: str) -> None:
    path = tmp_path / "rounds.json"
    path.write_text(content)
    with pytest.raises(StateError, match=r"rounds\.json"):
        RoundLedger(path)
