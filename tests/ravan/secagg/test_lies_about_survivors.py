"""Lies after the masks: who is alive, told twice, differently to different sites, or too late."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import combinations

import pytest
from coordinator_loot import MASK_SEED, Holdings, Loot, holdings, without_checks
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lying_coordinator import EVERYONE, NARROW, TILES, answered, demand, leaves, uploaded, vector
from secagg_driver import Federation, make_assignment, only

from ravan.errors import ErrorReason, RavanError
from ravan.secagg.bundles import shamir_threshold
from ravan.secagg.effects import Effect, SendReveal, SignSurvivors
from ravan.secagg.messages import (
    RevealRequest,
    SelfMaskShares,
    SurvivorSet,
)

# --- the yardstick: what a coordinator has that does not lie ------------------------------------------


@pytest.mark.parametrize("members", [4, 5, 7])
def test_fewer_than_a_third_of_corrupt_agents_open_nothing_and_t_open_all(members: int) -> None:
    federation = Federation(make_assignment([(0,)] * members))
    everyone = range(members)
    for uploaders in (everyone, everyone[:-1]):
        federation = uploaded(make_assignment([(0,)] * members), sharers=everyone, uploaders=uploaders)
        held = holdings(federation)
        request = federation.confirm(uploaders)
        assert isinstance(request, RevealRequest)
        federation.reveal(request, uploaders)
        threshold = shamir_threshold(members)
        for count in (0, (members - 1) // 3, threshold):
            for corrupt in combinations(everyone[1:], count):
                loot = Loot(federation, corrupt, held)
                loot.take_reveals(federation.revealed)
                assert (loot.secret(0, MASK_SEED) is not None) == (count == threshold)
                assert loot.bare((0,), 1) == (vector(federation, 1) if count == threshold else None)
                assert loot.bare(uploaders, 1) == federation.plain_sum(1, uploaders)


# --- both lists, and a second reveal for another survivor set -----------------------------------------


@pytest.fixture
def both() -> tuple[Federation, SurvivorSet, SurvivorSet, RevealRequest, Holdings]:
    """All have uploaded and signed that all are alive; the other set has the victim, member 4, among the dead."""
    federation = uploaded()
    held = holdings(federation)
    request = federation.confirm(EVERYONE)
    assert isinstance(request, RevealRequest)
    alive = request.survivor_set
    return federation, alive, SurvivorSet(survivors=(0, 1, 2, 3), bundles=(0, 1)), request, held


def test_both_lists(both: tuple[Federation, SurvivorSet, SurvivorSet, RevealRequest, Holdings]) -> None:
    federation, alive, dead, request, held = both
    loot = Loot(federation)
    for agent in federation.agents.values():
        forged = demand(federation, dead, (0, 1, 2, 3))
        leaves(ErrorReason.PROTOCOL_VIOLATION, partial(agent.reveal, forged), "signed another survivor set")
        twice = SurvivorSet(survivors=(0, 1, 2, 3, 4, 4), bundles=alive.bundles)
        leaves(ErrorReason.PROTOCOL_VIOLATION, partial(agent.survivors, twice), "signed another survivor set")
    federation.reveal(request, EVERYONE)
    loot.take_reveals(federation.revealed)
    assert loot.secret(4, 0) is not None
    assert loot.secret(4, MASK_SEED) is None
    assert loot.bare((4,), 0) is None
    assert answered(loot, held, dead).bare((4,), 0) == vector(federation, 0, 4)


def test_a_member_twice_in_the_one_list() -> None:
    federation = uploaded()
    twice = SurvivorSet(survivors=(0, 1, 1, 2, 3), bundles=(0, 1))
    leaves(ErrorReason.PROTOCOL_VIOLATION, lambda: federation.agents[0].survivors(twice), "twice")
    # Four distinct members would have passed for five, and a signature of one for that of two.
    twofold = demand(federation, SurvivorSet(survivors=EVERYONE, bundles=(0, 1, 2)), (0, 1, 1, 2))
    federation.confirm(EVERYONE)
    leaves(ErrorReason.PROTOCOL_VIOLATION, lambda: federation.agents[0].reveal(twofold), "signed twice")
    assert Loot(federation).bare((0,), 0) is None


def test_a_second_reveal_for_another_survivor_set(
    both: tuple[Federation, SurvivorSet, SurvivorSet, RevealRequest, Holdings],
) -> None:
    federation, _, dead, request, held = both
    federation.reveal(request, EVERYONE)
    loot = Loot(federation)
    loot.take_reveals(federation.revealed)
    for agent in federation.agents.values():
        forged = demand(federation, dead, (0, 1, 2, 3))
        leaves(ErrorReason.PROTOCOL_VIOLATION, partial(agent.reveal, forged), "reveals for no second one")
        leaves(ErrorReason.PROTOCOL_VIOLATION, partial(agent.survivors, dead), "reveals for no second one")
        assert agent.state == "REVEALED"
    assert loot.bare((4,), 0) is None
    assert answered(loot, held, dead).bare((4,), 0) == vector(federation, 0, 4)


# --- equivocation about survivors -----------------------------------------------------------------------


def views_of_twelve() -> dict[int, SurvivorSet]:
    """Twelve uploaded, t = 9. Each is told that three are dead, and so four are, with nine shares each."""
    doomed = (0, 1, 2, 3)
    spared = {i: i % 4 for i in range(12)}
    views = {}
    for i, mercy in spared.items():
        dead = {d for d in doomed if d != mercy}
        views[i] = SurvivorSet(survivors=tuple(j for j in range(12) if j not in dead), bundles=(0, 1))
    return views


def test_equivocation_about_survivors() -> None:
    everyone = tuple(range(12))
    federation = uploaded(make_assignment([(0,)] * 12, threshold=9), sharers=everyone, uploaders=everyone)
    views, held = views_of_twelve(), holdings(federation)
    # One by one each view is what an honest round with three drop-outs would have: everybody signs its own.
    signed = {i: only(federation.agents[i].survivors(view), SignSurvivors).signature for i, view in views.items()}
    for i, view in views.items():
        agent = federation.agents[i]
        same = tuple(signed[j] for j in everyone if views[j] == view)
        few = RevealRequest(survivor_set=view, signatures=same)
        leaves(ErrorReason.THRESHOLD_MISSED, partial(agent.reveal, few), "Only 3 sites signed")
        mixed = RevealRequest(survivor_set=view, signatures=tuple(signed[j] for j in view.survivors))
        leaves(ErrorReason.SIGNATURE_INVALID, partial(agent.reveal, mixed), "under the survivor set")
        assert agent.state == "CONFIRMED"
    loot = Loot(federation)
    crowd = everyone[4:]
    assert loot.bare(crowd, 1) is None
    for i, view in views.items():
        loot.take(i, without_checks(held[i], view))
    # A sum of eight, although the bundle's threshold is nine.
    assert loot.bare(crowd, 1) == federation.plain_sum(1, crowd)


def test_a_planted_survivor_who_never_masked() -> None:
    federation = uploaded(sharers=(0, 1, 2, 3), uploaders=(0, 1, 2, 3))
    held = holdings(federation)
    # Of bundle 2's cohort only 0 and 1 are there; with 4 it would seem to have enough.
    claimed = SurvivorSet(survivors=EVERYONE, bundles=(0, 1, 2))
    for i in federation.mask_set:
        leaves(ErrorReason.PROTOCOL_VIOLATION, partial(federation.agents[i].survivors, claimed), "that did not mask")
    loot = Loot(federation, (1,), held)
    assert loot.bare((0,), NARROW) is None
    for holder in federation.mask_set:
        loot.take(holder, without_checks(held[holder], claimed))
    assert loot.bare((0,), NARROW) == vector(federation, NARROW)


# --- small cohort


def test_a_small_cohort_among_the_survivors() -> None:
    federation = uploaded(uploaders=(0, 1, 2, 3))
    held = holdings(federation)
    assert federation.survivor_set == SurvivorSet(survivors=(0, 1, 2, 3), bundles=(0, 1))
    thin = replace(federation.survivor_set, bundles=(0, 1, NARROW))
    for i in thin.survivors:
        leaves(ErrorReason.PROTOCOL_VIOLATION, partial(federation.agents[i].survivors, thin), "do not follow from the")
    # Member 1 is the coordinator's own; with the sum of the two it knows the victim's part.
    loot = Loot(federation, (1,), held)
    assert loot.bare((0, 1), NARROW) is None
    assert answered(loot, held, thin).bare((0, 1), NARROW) == federation.plain_sum(NARROW, (0, 1))
    assert loot.bare((0,), NARROW) == vector(federation, NARROW)


def test_survivors_of_whom_no_bundle_has_enough() -> None:
    # Four are enough for the shares, and five for a bundle.
    federation = uploaded(make_assignment(TILES, threshold=5))
    nothing = SurvivorSet(survivors=(0, 1, 2, 3), bundles=())
    for i in nothing.survivors:
        leaves(ErrorReason.THRESHOLD_MISSED, partial(federation.agents[i].survivors, nothing), "No bundle has enough")


def test_too_few_survivors_for_the_shares_to_protect_anybody() -> None:
    federation = uploaded()
    held = holdings(federation)
    few = SurvivorSet(survivors=(0, 1, 2), bundles=(0, 1))
    for i in few.survivors:
        leaves(ErrorReason.THRESHOLD_MISSED, partial(federation.agents[i].survivors, few), "Only 3 sites uploaded")
    loot = Loot(federation, (3, 4), held)
    assert loot.bare((0, 1, 2), 0) is None
    # Three who answer and two who are the coordinator's are five: the sum of three, where four must be.
    assert answered(loot, held, few).bare((0, 1, 2), 0) == federation.plain_sum(0, (0, 1, 2))


# --- late upload --------------------------------------------------------------------------------------------------


def test_a_late_upload_of_one_declared_dead() -> None:
    federation = uploaded(uploaders=(1, 2, 3, 4))
    held = holdings(federation)
    # The late vector is there all the same: a liar keeps what comes.
    assert federation.payloads[0]
    survivors = federation.survivor_set
    assert survivors is not None
    assert survivors.survivors == (1, 2, 3, 4)
    leaves(
        ErrorReason.PROTOCOL_VIOLATION,
        lambda: federation.agents[0].survivors(survivors),
        "declares this site dropped although it uploaded",
    )
    request = federation.confirm((1, 2, 3, 4))
    assert isinstance(request, RevealRequest)
    leaves(ErrorReason.WRONG_STATE, lambda: federation.agents[0].reveal(request), "UPLOADING")
    federation.reveal(request, (1, 2, 3, 4))
    loot = Loot(federation)
    loot.take_reveals(federation.revealed)
    assert loot.secret(0, MASK_SEED) is not None
    assert loot.secret(0, 0) is None
    assert loot.bare((0,), 0) is None
    for holder in (1, 2, 3, 4):
        loot.take(holder, {0: SelfMaskShares(shares=held[holder][0].self_seeds)})
    assert loot.bare((0,), 0) == vector(federation, 0)


# --- whatever it says, in whatever order ------------------------------------------------------------------------


SETS = (
    SurvivorSet(survivors=(0, 1, 2, 3, 4), bundles=(0, 1, 2)),
    SurvivorSet(survivors=(0, 1, 2, 3), bundles=(0, 1)),
    SurvivorSet(survivors=(0, 1, 2, 4), bundles=(0, 1, 2)),
    SurvivorSet(survivors=(1, 2, 3, 4), bundles=(0, 1)),
    SurvivorSet(survivors=(0, 1, 2, 3), bundles=(0, 1, 2)),
)
"""Three that an honest round may have, one without the agent, one with a thin bundle."""

LIES = st.tuples(st.booleans(), st.sampled_from(SETS), st.integers(3, 5))
"""Whether a reveal is asked for, for which survivors, and how many of them seem to have signed."""


@settings(deadline=None)
@given(st.lists(LIES, max_size=12))
@example([(False, SETS[0], 5), (True, SETS[1], 4), (True, SETS[0], 5), (True, SETS[1], 4), (True, SETS[0], 4)])
def test_no_sequence_of_lies_gets_a_second_signature_or_a_second_kind_of_share(
    lies: list[tuple[bool, SurvivorSet, int]],
) -> None:
    federation = uploaded()
    said: list[Effect] = []
    for is_reveal, asked, signers in lies:
        request = demand(federation, asked, asked.survivors[:signers])
        agent = federation.agents[0]
        try:
            said += agent.reveal(request) if is_reveal else agent.survivors(asked)
        except RavanError:
            continue
    signatures = [effect.signature for effect in said if isinstance(effect, SignSurvivors)]
    assert all(signature == signatures[0] for signature in signatures)
    reveals = [effect.shares for effect in said if isinstance(effect, SendReveal)]
    assert all(revealed == reveals[0] for revealed in reveals)
    assert not reveals or signatures
