"""Whole rounds in memory: drops and deadlines in every phase, thresholds, refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
from round_world import (
    ALL_FULL,
    DENSE,
    PHASE_DEADLINE_S,
    TRAINING_DEADLINE_S,
    VERSION,
    World,
    head,
    site,
)

from coordinator.rounds.effects import Commit, EndRound, PhaseClosed, RecordDrop, RunUnmask, SetDeadline
from coordinator.rounds.events import (
    DeadlinePassed,
    EvaluationDone,
    MessageReceived,
    SiteGone,
    StopRequested,
    WorkFailed,
)
from coordinator.rounds.states import COLLECTING, PHASE_OF, RoundState
from ravan.errors import ErrorReason, IdentityError, ProtocolError, RavanError, StateError
from ravan.ids import Digest
from ravan.manifest.instructions import ExchangeShares, Reveal, Train
from ravan.manifest.phases import DropReason, RoundOutcome, RoundPhase

EVERYONE = [site(i) for i in range(5)]


def test_an_honest_round_is_committed_with_the_exact_sum() -> None:
    world = World()
    world.begin()
    world.pump()
    total = world.finish().summed.total
    for block in (DENSE, head(0), head(1)):
        assert total.blocks[block].total.tolist() == world.plain_sum(block, range(5))
    assert world.machine.outcome is RoundOutcome.COMMITTED
    assert world.machine.completed == tuple(EVERYONE)
    assert world.machine.absences == ()
    assert [effect.version for effect in world.effects if isinstance(effect, Commit)] == [VERSION]
    for results in world.results().values():
        assert [(r.outcome, r.state_digest, r.dropped) for r in results] == [
            (RoundOutcome.COMMITTED, VERSION.state_digest, False)
        ]


@pytest.mark.parametrize("state", COLLECTING)
def test_a_site_lost_in_any_phase_is_recorded_and_the_round_goes_on(state: RoundState) -> None:
    world = World(silent_in={site(1): state})
    world.begin()
    world.pump()
    assert world.machine.state is state
    assert world.machine.awaited == (site(1),)
    world.lose(site(1), reason=DropReason.MEMORY)
    world.pump()
    total = world.finish().summed.total
    counted = [0, 1, 2, 3, 4] if state in {RoundState.CONFIRMING, RoundState.REVEALING} else [0, 2, 3, 4]
    assert total.blocks[head(1)].total.tolist() == world.plain_sum(head(1), counted)
    assert world.machine.completed == tuple(site(i) for i in counted)
    drops = [effect for effect in world.effects if isinstance(effect, RecordDrop)]
    assert drops == [RecordDrop(site=site(1), phase=PHASE_OF[state], reason=DropReason.MEMORY)]
    assert [(r.dropped, r.state_digest) for r in world.results()[site(1)]] == [(True, b"")]


@pytest.mark.parametrize("state", COLLECTING)
def test_a_site_that_says_nothing_is_dropped_at_the_deadline(state: RoundState) -> None:
    world = World(silent_in={site(4): state})
    world.begin()
    world.pump()
    began = world.now
    world.pass_deadline()
    assert world.now - began == (TRAINING_DEADLINE_S if state is RoundState.TRAINING else PHASE_DEADLINE_S)
    world.pump()
    world.finish()
    absences = [(a.index, a.phase, a.reason) for a in world.machine.absences]
    assert absences == [(4, PHASE_OF[state], DropReason.DEADLINE)]
    assert world.machine.outcome is RoundOutcome.COMMITTED


@pytest.mark.parametrize("state", COLLECTING)
def test_too_few_sites_end_the_round_at_once_and_reveal_nothing_more(state: RoundState) -> None:
    silent = {site(i): state for i in (0, 2, 4)}
    world = World(silent_in=silent)
    world.begin()
    world.pump()
    world.lose(*silent)
    assert world.machine.outcome is RoundOutcome.TOO_FEW_SITES
    assert not [effect for effect in world.effects if isinstance(effect, RunUnmask)]
    assert (world.sent(Reveal) == set()) == (state is not RoundState.REVEALING)
    assert [end.outcome for end in world.ends()] == [RoundOutcome.TOO_FEW_SITES]
    assert "must" in world.ends()[0].detail
    survivors = world.results()[site(1)]
    assert [(r.outcome, r.dropped) for r in survivors] == [(RoundOutcome.TOO_FEW_SITES, False)]


@pytest.mark.parametrize("state", COLLECTING)
def test_too_few_answers_at_the_deadline_end_the_round(state: RoundState) -> None:
    world = World(silent_in={site(i): state for i in (0, 2, 4)})
    world.begin()
    world.pump()
    world.pass_deadline()
    assert world.machine.outcome is RoundOutcome.TOO_FEW_SITES
    assert {a.reason for a in world.machine.absences} == {DropReason.DEADLINE}


def test_three_sites_go_on_when_two_of_five_are_lost_before_keys_are_agreed() -> None:
    world = World(silent_in={site(0): RoundState.TRAINING, site(1): RoundState.TRAINING})
    world.begin()
    world.pump()
    world.lose(site(0), site(1))
    world.pump()
    assert world.finish().summed.total.survivors == (2, 3, 4)


def test_a_finisher_lost_while_others_train_is_left_out_of_the_roster() -> None:
    world = World(silent_in={site(0): RoundState.TRAINING})
    world.begin()
    world.pump()
    world.lose(site(3), site(4))
    assert world.machine.state is RoundState.TRAINING
    world.silent_in = {}
    world.react(site(0), world.agents[site(0)].finish_training())
    world.pump()
    (roster,) = world.machine.rosters
    assert [entry.index for entry in roster.entries] == [0, 1, 2]
    assert world.sent(ExchangeShares) == {site(0), site(1), site(2)}
    world.finish()
    assert world.machine.outcome is RoundOutcome.COMMITTED


def test_a_lost_finisher_does_not_count_towards_the_threshold() -> None:
    world = World(silent_in={site(0): RoundState.TRAINING})
    world.begin()
    world.pump()
    world.lose(site(1), site(2), site(3))
    assert world.machine.outcome is RoundOutcome.TOO_FEW_SITES


def test_a_refused_version_is_not_committed_and_every_member_hears_so() -> None:
    world = World()
    world.run_to(RoundState.UNMASKING)
    world.finish_unmasking()
    effects = world.feed(EvaluationDone(at=world.now, version=VERSION, refusal="It is worse."))
    assert not any(isinstance(effect, Commit) for effect in effects)
    assert world.ends() == [EndRound(outcome=RoundOutcome.REFUSED, detail="It is worse.")]
    for (result,) in world.results().values():
        assert (result.outcome, result.state_digest, result.dropped) == (RoundOutcome.REFUSED, b"", False)


def test_a_thin_bundle_is_withheld_while_the_round_commits() -> None:
    # Tile 1 is trained by sites 0, 1 and 2 alone; losing 0 at upload leaves two.
    world = World(tiles_of=((0, 1), (0, 1), (0, 1), (0,), ()), silent_in={site(0): RoundState.UPLOADING})
    world.begin()
    world.pump()
    world.lose(site(0))
    world.pump()
    total = world.finish().summed.total
    assert [withheld.blocks for withheld in total.withheld] == [(head(0),)]
    assert set(total.blocks) == {DENSE, head(1)}
    assert total.blocks[head(1)].total.tolist() == world.plain_sum(head(1), [1, 2, 3])
    assert total.blocks[DENSE].total.tolist() == world.plain_sum(DENSE, [1, 2, 3, 4])
    assert world.machine.outcome is RoundOutcome.COMMITTED


def test_phases_are_timed_and_deadlines_follow_the_job() -> None:
    world = World(silent_in={site(0): RoundState.TRAINING})
    world.begin()
    world.pump()
    world.now += 40
    world.silent_in = {}
    world.react(site(0), world.agents[site(0)].finish_training())
    world.pump()
    world.now += 2
    world.finish_unmasking()
    assert world.machine.phase_seconds[RoundPhase.TRAINING] == 40
    assert world.machine.phase_seconds[RoundPhase.UNMASKING] == 2
    closed = [effect.phase for effect in world.effects if isinstance(effect, PhaseClosed)]
    assert closed == [p for p in RoundPhase if p not in {RoundPhase.EVALUATING, RoundPhase.ENDED}]
    deadlines = {effect.state: effect.after_s for effect in world.effects if isinstance(effect, SetDeadline)}
    assert deadlines[RoundState.TRAINING] == TRAINING_DEADLINE_S
    assert deadlines[RoundState.SHARING] == PHASE_DEADLINE_S
    assert deadlines[RoundState.UNMASKING] is None


def test_a_deadline_of_an_earlier_state_changes_nothing() -> None:
    world = World()
    world.run_to(RoundState.UPLOADING)
    assert world.feed(DeadlinePassed(at=world.now, state=RoundState.TRAINING)) == ()
    assert world.machine.awaited == tuple(EVERYONE)


def test_messages_that_come_again_in_later_phases_are_ignored() -> None:
    world = World()
    world.begin()
    world.pump()
    assert world.machine.state is RoundState.UNMASKING
    for event in world.said:
        assert world.feed(event) == ()
    assert world.machine.state is RoundState.UNMASKING


def test_a_repeated_message_is_no_answer_to_the_next_phase() -> None:
    world = World(silent_in=dict.fromkeys(EVERYONE, RoundState.SHARING))
    world.begin()
    world.pump()
    assert world.machine.state is RoundState.SHARING
    for event in list(world.said):
        world.feed(event)
    assert world.machine.awaited == tuple(EVERYONE)
    world.lose(*EVERYONE[:2])
    assert world.machine.outcome is RoundOutcome.TOO_FEW_SITES


def refused(world: World, event: MessageReceived) -> RavanError:
    before = (world.machine.state, world.machine.awaited, world.machine.absences)
    with pytest.raises(RavanError) as caught:
        world.feed(event)
    assert (world.machine.state, world.machine.awaited, world.machine.absences) == before
    return caught.value


def test_another_member_s_index_is_refused() -> None:
    world = World(silent_in={site(1): RoundState.TRAINING, site(2): RoundState.TRAINING})
    world.begin()
    world.pump()
    event = replace(world.said[0], site=site(1))
    assert isinstance(event, MessageReceived)
    error = refused(world, event)
    assert isinstance(error, IdentityError)
    assert error.reason is ErrorReason.PERMISSION_DENIED


def test_another_member_s_keys_under_the_own_index_are_refused() -> None:
    world = World(silent_in={site(1): RoundState.TRAINING, site(2): RoundState.TRAINING})
    world.begin()
    world.pump()
    event = world.said[0]
    assert isinstance(event, MessageReceived)
    error = refused(world, replace(event, site=site(1), index=1))
    assert isinstance(error, ProtocolError)


def test_a_site_that_was_not_selected_is_refused() -> None:
    world = World(silent_in={site(1): RoundState.TRAINING})
    world.begin()
    world.pump()
    event = world.said[0]
    assert isinstance(event, MessageReceived)
    assert refused(world, replace(event, site=site(9))).reason is ErrorReason.PERMISSION_DENIED


def test_another_round_or_document_is_refused() -> None:
    world = World(silent_in={site(1): RoundState.SHARING})
    world.begin()
    world.pump()
    event = world.said[-1]
    assert isinstance(event, MessageReceived)
    for reference in (
        replace(event.reference, round_number=2),
        replace(event.reference, assignment_digest=Digest(b"x" * 32)),
        replace(event.reference, roster_digest=Digest(b"x" * 32)),
    ):
        assert refused(world, replace(event, reference=reference)).reason is ErrorReason.WRONG_STATE


def test_a_dropped_site_is_told_so_and_stays_out() -> None:
    world = World(silent_in={site(0): RoundState.TRAINING, site(1): RoundState.TRAINING})
    world.begin()
    world.pump()
    world.lose(site(0), reason=DropReason.RESTARTED)
    with pytest.raises(StateError, match="restarted") as caught:
        world.react(site(0), world.agents[site(0)].finish_training())
    assert caught.value.reason is ErrorReason.WRONG_STATE
    assert world.feed(SiteGone(at=world.now, site=site(0), reason=DropReason.LEFT)) == ()


def test_a_site_lost_while_the_worker_runs_changes_nothing() -> None:
    world = World()
    world.begin()
    world.pump()
    world.lose(site(0))
    world.finish()
    assert world.machine.absences == ()
    assert world.machine.completed == tuple(EVERYONE)


@pytest.mark.parametrize("outcome", [RoundOutcome.CANARY_MISMATCH, RoundOutcome.INTERNAL])
def test_a_worker_that_gives_up_ends_the_round_without_a_version(outcome: RoundOutcome) -> None:
    world = World()
    world.begin()
    world.pump()
    world.feed(WorkFailed(at=world.now, outcome=outcome))
    assert world.machine.outcome is outcome
    assert world.machine.completed == ()
    assert not [effect for effect in world.effects if isinstance(effect, Commit)]


@pytest.mark.parametrize("state", [s for s in RoundState if s not in {RoundState.ENDED, RoundState.SIGNING}])
def test_an_operator_can_stop_the_round_in_every_state(state: RoundState) -> None:
    world = World()
    if state is not RoundState.PLANNED:
        world.run_to(state)
    world.feed(StopRequested(at=world.now))
    assert world.machine.outcome is RoundOutcome.STOPPED
    assert all(r[-1].outcome is RoundOutcome.STOPPED for r in world.results().values())


def test_the_assignment_goes_to_everyone() -> None:
    world = World(tiles_of=ALL_FULL)
    world.begin()
    assert world.sent(Train) == set(EVERYONE)


def test_a_round_in_groups_goes_on_without_the_one_that_misses_its_threshold() -> None:
    # 65 sites train one tile and 65 both, so these are the groups; floor(2 x 65 / 3) + 1 = 44 of each must stay.
    everyone = range(130)
    silent = {site(i): RoundState.UPLOADING for i in range(22)}
    world = World(tiles_of=((0,),) * 65 + ((0, 1),) * 65, silent_in=silent)
    world.begin()
    world.pump()
    assert [len(roster.entries) for roster in world.machine.rosters] == [65, 65]
    assert world.machine.state is RoundState.UPLOADING
    world.pass_deadline()
    assert {absence.reason for absence in world.machine.absences} == {DropReason.DEADLINE, DropReason.GROUP}
    left_behind = [absence.index for absence in world.machine.absences if absence.reason is DropReason.GROUP]
    assert sorted(left_behind) == list(range(22, 65))
    assert all(result.dropped for i in range(65) for result in world.results()[site(i)])
    world.pump()
    total = world.finish().summed.total
    assert world.machine.outcome is RoundOutcome.COMMITTED
    assert total.survivors == tuple(i for i in everyone if i >= 65)
    for block in (DENSE, head(0), head(1)):
        assert total.blocks[block].total.tolist() == world.plain_sum(block, range(65, 130))


def test_sums_of_all_groups_are_added() -> None:
    world = World(tiles_of=((0,),) * 65 + ((0, 1),) * 65)
    world.begin()
    world.pump()
    total = world.finish().summed.total
    assert world.machine.completed == tuple(site(i) for i in range(130))
    assert total.blocks[head(1)].total.tolist() == world.plain_sum(head(1), range(130))
    assert total.blocks[head(0)].total.tolist() == world.plain_sum(head(0), range(65, 130))
