"""What an agent refuses, and that a refusal changes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from secagg_driver import Federation, identity, make_assignment, only, refused, seeded

from ravan.errors import ErrorReason, ProtocolError, StateError
from ravan.ids import Digest
from ravan.manifest.roster import Roster
from ravan.secagg.agent_sharing import Sharing
from ravan.secagg.bundles import plan_bundles
from ravan.secagg.effects import Mask, PersistRevealed, SendReveal, SignSurvivors
from ravan.secagg.messages import (
    RevealRequest,
    SeedShare,
    SelfMaskShares,
    ShareDelivery,
    SurvivorSet,
    SurvivorSignature,
)
from ravan.secagg.sealing import seal
from ravan.secagg.shamir import PRIME
from ravan.secagg.transcript import derivation_salt, mask_set_digest, survivor_bytes

TILES = [(0, 1, 2), (0, 1, 2), (0, 1, 2), (0, 1), (0,)]
EVERYONE = tuple(range(5))


@pytest.fixture
def federation() -> Federation:
    return Federation(make_assignment(TILES))


@pytest.fixture
def roster(federation: Federation) -> Roster:
    roster = federation.advertise(EVERYONE)
    assert isinstance(roster, Roster)
    return roster


@pytest.fixture
def delivery(federation: Federation, roster: Roster) -> ShareDelivery:
    deliveries = federation.share(EVERYONE)
    assert isinstance(deliveries, dict)
    federation.mask(1, deliveries[1])
    return deliveries[0]


# --- the assignment --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bundle_threshold": 2}, ErrorReason.THRESHOLD_MISSED),
        ({"ring_bits": 20}, ErrorReason.PROTOCOL_VIOLATION),
        ({"ring_bits": 48}, ErrorReason.PROTOCOL_VIOLATION),
        ({"members": ()}, ErrorReason.PROTOCOL_VIOLATION),
        ({"tiles": ()}, ErrorReason.PROTOCOL_VIOLATION),
    ],
    ids=str,
)
def test_assignment_that_breaks_a_rule(federation: Federation, changes: Any, reason: ErrorReason) -> None:
    assignment = replace(federation.assignment, **changes)
    refused(reason, lambda: federation.agent(0, assignment=assignment))


def test_members_blocks_and_tiles_must_be_sound(federation: Federation) -> None:
    good = federation.assignment
    first, second, *others = good.members
    broken_members = [
        (replace(second, index=0), first, *others),
        (first, replace(second, identity_key=first.identity_key), *others),
        (first, replace(second, tiles=(0, 0)), *others),
        (first, replace(second, tiles=(7,)), *others),
    ]
    broken: list[dict[str, Any]] = [{"members": members} for members in broken_members]
    broken += [
        {"blocks": (*good.blocks, good.blocks[0])},
        {"blocks": (replace(good.blocks[0], clip=float("nan")), *good.blocks[1:])},
        {"blocks": (replace(good.blocks[0], length=0), *good.blocks[1:])},
        {"blocks": good.blocks[:-1]},
        {"tiles": (*good.tiles, good.tiles[0])},
        {"tiles": (*good.tiles, replace(good.tiles[0], tile_id=9))},
    ]
    for changes in broken:
        assignment = replace(good, **changes)
        refused(ErrorReason.PROTOCOL_VIOLATION, partial(federation.agent, 0, assignment=assignment))


def test_local_policy_can_only_raise_the_cohort(federation: Federation) -> None:
    refused(ErrorReason.THRESHOLD_MISSED, lambda: federation.agent(0, policy_floor=4), "asks for 4")
    assert federation.agent(0, policy_floor=1).state == "TRAINING"
    careless = replace(federation.assignment, bundle_threshold=2)
    refused(ErrorReason.THRESHOLD_MISSED, lambda: federation.agent(0, assignment=careless, policy_floor=1))


def test_foreign_index_short_root_and_foreign_identity(federation: Federation) -> None:
    for index in (-1, 5):
        refused(ErrorReason.PROTOCOL_VIOLATION, partial(federation.agent, index))
    for root in (b"short", bytes(33)):
        refused(ErrorReason.MALFORMED, partial(federation.agent, 0, root=root))
    stranger = federation.agent(0, signer=identity(9).sign)
    refused(ErrorReason.SIGNATURE_INVALID, stranger.finish_training)


# --- the roster --------------------------------------------------------------------------------------


def _without(roster: Roster, index: int) -> Roster:
    return replace(roster, entries=tuple(e for e in roster.entries if e.index != index))


def _swapped(roster: Roster) -> Roster:
    first, second, *others = roster.entries
    return replace(roster, entries=(second, first, *others))


def _changed(roster: Roster, position: int, **changes: Any) -> Roster:
    entries = list(roster.entries)
    entries[position] = replace(entries[position], **changes)
    return replace(roster, entries=tuple(entries))


ROSTERS: dict[str, tuple[Callable[[Roster], Roster], ErrorReason]] = {
    "another assignment": (
        lambda r: replace(r, assignment_digest=Digest(bytes(32))),
        ErrorReason.PROTOCOL_VIOLATION,
    ),
    "own entry missing": (lambda r: _without(r, 0), ErrorReason.PROTOCOL_VIOLATION),
    "own key replaced": (lambda r: _changed(r, 0, mask_key=bytes(32)), ErrorReason.PROTOCOL_VIOLATION),
    "out of order": (_swapped, ErrorReason.PROTOCOL_VIOLATION),
    "listed twice": (
        lambda r: replace(r, entries=(*r.entries, r.entries[-1])),
        ErrorReason.PROTOCOL_VIOLATION,
    ),
    "unknown member": (lambda r: _changed(r, 4, index=7), ErrorReason.PROTOCOL_VIOLATION),
    "bundles of other members": (lambda r: _without(r, 4), ErrorReason.PROTOCOL_VIOLATION),
    "lower threshold": (lambda r: replace(r, threshold=3), ErrorReason.PROTOCOL_VIOLATION),
    "higher threshold": (lambda r: replace(r, threshold=5), ErrorReason.PROTOCOL_VIOLATION),
    "lower bundle threshold": (
        lambda r: replace(r, bundles=(replace(r.bundles[0], threshold=2), *r.bundles[1:])),
        ErrorReason.PROTOCOL_VIOLATION,
    ),
    "void bundle revived": (
        lambda r: replace(r, bundles=(*r.bundles[:-1], replace(r.bundles[-1], void=True))),
        ErrorReason.PROTOCOL_VIOLATION,
    ),
    "key used twice": (
        lambda r: _changed(r, 1, mask_key=r.entries[2].mask_key),
        ErrorReason.PROTOCOL_VIOLATION,
    ),
    "short key": (lambda r: _changed(r, 1, mask_key=b"short"), ErrorReason.PROTOCOL_VIOLATION),
    "substituted key": (lambda r: _changed(r, 1, mask_key=seeded("mitm")), ErrorReason.SIGNATURE_INVALID),
    "broken signature": (lambda r: _changed(r, 1, signature=bytes(64)), ErrorReason.SIGNATURE_INVALID),
    "signature of another": (
        lambda r: _changed(r, 1, signature=r.entries[2].signature),
        ErrorReason.SIGNATURE_INVALID,
    ),
}


@pytest.mark.parametrize("name", ROSTERS)
def test_roster_that_does_not_hold(federation: Federation, roster: Roster, name: str) -> None:
    change, reason = ROSTERS[name]
    agent = federation.agents[0]
    refused(reason, lambda: agent.roster(change(roster), federation.roster_digest))
    assert agent.state == "ADVERTISED"
    assert agent.roster(roster, federation.roster_digest)


def test_a_roster_that_is_out_of_order_throughout(federation: Federation, roster: Roster) -> None:
    """Everything else follows from the order, and agents would disagree about it."""
    bundles = plan_bundles(federation.assignment, (1, 0, 2, 3, 4))
    turned = replace(_swapped(roster), bundles=bundles)
    agent = federation.agents[0]
    refused(ErrorReason.PROTOCOL_VIOLATION, lambda: agent.roster(turned, federation.roster_digest), "out of order")


# --- the shares --------------------------------------------------------------------------------------


def _tampered(delivery: ShareDelivery, sender: int, position: int) -> ShareDelivery:
    ciphertext = bytearray(delivery.ciphertexts[sender])
    ciphertext[position] ^= 1
    return replace(delivery, ciphertexts={**delivery.ciphertexts, sender: bytes(ciphertext)})


def _only_from(delivery: ShareDelivery, members: tuple[int, ...]) -> ShareDelivery:
    return ShareDelivery(mask_set=members, ciphertexts={s: c for s, c in delivery.ciphertexts.items() if s in members})


DELIVERIES: dict[str, tuple[Callable[[ShareDelivery], ShareDelivery], ErrorReason, str]] = {
    "altered": (lambda d: _tampered(d, 3, -1), ErrorReason.PROTOCOL_VIOLATION, "member 3"),
    "other version": (lambda d: _tampered(d, 3, 0), ErrorReason.PROTOCOL_VIOLATION, "member 3"),
    "swapped senders": (
        lambda d: replace(d, ciphertexts={**d.ciphertexts, 1: d.ciphertexts[2], 2: d.ciphertexts[1]}),
        ErrorReason.PROTOCOL_VIOLATION,
        "altered",
    ),
    "cut short": (
        lambda d: replace(d, ciphertexts={**d.ciphertexts, 2: d.ciphertexts[2][:-1]}),
        ErrorReason.PROTOCOL_VIOLATION,
        "member 2",
    ),
    "one missing": (
        lambda d: replace(d, ciphertexts={s: c for s, c in d.ciphertexts.items() if s != 2}),
        ErrorReason.PROTOCOL_VIOLATION,
        "not exactly",
    ),
    "one too many": (
        lambda d: replace(d, mask_set=(0, 1, 2, 3)),
        ErrorReason.PROTOCOL_VIOLATION,
        "not exactly",
    ),
    "not me": (lambda d: _only_from(d, (1, 2, 3, 4)), ErrorReason.PROTOCOL_VIOLATION, "leaves this site out"),
    "below t": (lambda d: _only_from(d, (0, 1, 2)), ErrorReason.THRESHOLD_MISSED, "Only 3"),
    "unknown": (
        lambda d: replace(d, mask_set=(*d.mask_set, 9)),
        ErrorReason.PROTOCOL_VIOLATION,
        "not in the roster",
    ),
    "twice": (lambda d: replace(d, mask_set=(0, 0, 1, 2, 3)), ErrorReason.PROTOCOL_VIOLATION, "twice"),
}


@pytest.mark.parametrize("name", DELIVERIES)
def test_delivery_that_does_not_hold(federation: Federation, delivery: ShareDelivery, name: str) -> None:
    change, reason, match = DELIVERIES[name]
    agent = federation.agents[0]
    refused(reason, lambda: agent.deliver(change(delivery)), match)
    with pytest.raises(ProtocolError) as caught:
        agent.deliver(change(delivery))
    named = re.search(r"member (\d) sealed", str(caught.value))
    assert caught.value.suspect == (int(named[1]) if named else None)
    assert agent.state == "SHARING"
    assert only(agent.deliver(delivery), Mask).job.bundles


def test_a_sealed_share_that_is_no_element_is_its_senders(federation: Federation, delivery: ShareDelivery) -> None:
    agent = federation.agents[0]
    state = agent._state
    assert isinstance(state, Sharing)
    salt = derivation_salt(state.context.assignment_digest, state.roster_digest)
    count = (len(delivery.ciphertexts[2]) - 17) // 33
    shares = (*[bytes(33)] * (count - 1), PRIME.to_bytes(33, "big"))
    sealed = seal(state.channels[2], salt, 2, 0, shares)
    with pytest.raises(ProtocolError) as caught:
        agent.deliver(replace(delivery, ciphertexts={**delivery.ciphertexts, 2: sealed}))
    assert caught.value.suspect == 2


def test_an_update_is_masked_once(federation: Federation, delivery: ShareDelivery) -> None:
    agent = federation.agents[0]
    job = only(agent.deliver(delivery), Mask).job
    refused(ErrorReason.WRONG_STATE, lambda: agent.deliver(delivery), "MASKING")
    refused(ErrorReason.MALFORMED, lambda: agent.masked(Digest(bytes(32)), job.size_bytes + 1))
    refused(ErrorReason.MALFORMED, lambda: agent.masked(Digest(bytes(32)), job.size_bytes - 1))
    refused(ErrorReason.MALFORMED, lambda: agent.masked(Digest(b""), job.size_bytes))
    refused(ErrorReason.MALFORMED, lambda: agent.masked(Digest(bytes(33)), job.size_bytes))
    agent.masked(Digest(bytes(32)), job.size_bytes)
    refused(ErrorReason.WRONG_STATE, lambda: agent.masked(Digest(bytes(32)), job.size_bytes), "UPLOADING")


# --- survivors and reveal ------------------------------------------------------------------------------


@pytest.fixture
def request_(federation: Federation, roster: Roster) -> RevealRequest:
    return federation.run_to_request(EVERYONE, (0, 1, 2, 3))


SURVIVORS = {
    "declares me dropped": (SurvivorSet(survivors=(1, 2, 3, 4), bundles=(0, 1, 2)), ErrorReason.PROTOCOL_VIOLATION),
    "below t": (SurvivorSet(survivors=(0, 1, 2), bundles=(0, 1, 2, 3)), ErrorReason.THRESHOLD_MISSED),
    "unknown": (SurvivorSet(survivors=(0, 1, 2, 9), bundles=(0, 1, 2, 3)), ErrorReason.PROTOCOL_VIOLATION),
    "twice": (SurvivorSet(survivors=(0, 1, 2, 2), bundles=(0, 1, 2, 3)), ErrorReason.PROTOCOL_VIOLATION),
    "out of order": (SurvivorSet(survivors=(0, 2, 1, 3), bundles=(0, 1, 2, 3)), ErrorReason.PROTOCOL_VIOLATION),
    "thin bundle approved": (
        SurvivorSet(survivors=(0, 1, 3, 4), bundles=(0, 1, 2, 3)),
        ErrorReason.PROTOCOL_VIOLATION,
    ),
    "bundle left out": (SurvivorSet(survivors=(0, 1, 2, 3), bundles=(0, 1)), ErrorReason.PROTOCOL_VIOLATION),
}


@pytest.mark.parametrize("name", SURVIVORS)
def test_survivor_set_that_does_not_hold(federation: Federation, roster: Roster, name: str) -> None:
    deliveries = federation.share(EVERYONE)
    assert isinstance(deliveries, dict)
    federation.upload(deliveries, (0, 1, 2, 3))
    assert federation.survivor_set is not None
    wrong, reason = SURVIVORS[name]
    agent = federation.agents[0]
    refused(reason, lambda: agent.survivors(wrong))
    assert agent.survivors(federation.survivor_set)


def test_a_second_survivor_set_is_never_signed(federation: Federation, request_: RevealRequest) -> None:
    agent = federation.agents[0]
    signed = request_.survivor_set
    other = SurvivorSet(survivors=EVERYONE, bundles=(0, 1, 2, 3))
    for _ in range(2):
        refused(ErrorReason.PROTOCOL_VIOLATION, lambda: agent.survivors(other), "another survivor set")
        assert only(agent.survivors(signed), SignSurvivors).signature == request_.signatures[0]


def test_reveal_is_persisted_first_and_repeats_the_same_bytes(federation: Federation, request_: RevealRequest) -> None:
    agent = federation.agents[0]
    persist, first = agent.reveal(request_)
    assert isinstance(persist, PersistRevealed)
    assert isinstance(first, SendReveal)
    assert persist.survivor_digest == first.shares.survivor_digest
    assert agent.reveal(request_) == (first,)
    assert {owner: type(s) for owner, s in first.shares.shares.items()} == {
        **dict.fromkeys((0, 1, 2, 3), SelfMaskShares),
        4: SeedShare,
    }


def test_another_set_is_refused_for_ever_even_under_everybodys_signature(
    federation: Federation, request_: RevealRequest
) -> None:
    other = SurvivorSet(survivors=EVERYONE, bundles=(0, 1, 2, 3))
    mask_set = mask_set_digest(federation.digest, federation.roster_digest, EVERYONE)
    message = survivor_bytes(mask_set, other.survivors, other.bundles)
    signatures = tuple(SurvivorSignature(index=i, signature=identity(i).sign(message)) for i in EVERYONE)
    agent = federation.agents[0]
    forged = RevealRequest(survivor_set=other, signatures=signatures)
    refused(ErrorReason.PROTOCOL_VIOLATION, lambda: agent.reveal(forged))
    assert len(agent.reveal(request_)) == 2
    refused(ErrorReason.PROTOCOL_VIOLATION, lambda: agent.reveal(forged))
    refused(ErrorReason.PROTOCOL_VIOLATION, lambda: agent.survivors(other))
    assert len(agent.reveal(request_)) == 1


def test_reveal_needs_t_right_signatures_of_distinct_survivors(federation: Federation, request_: RevealRequest) -> None:
    agent, good = federation.agents[0], request_.signatures
    broken = replace(good[1], signature=good[2].signature)
    outsider = replace(good[1], index=4)
    cases = {
        good[:3]: ErrorReason.THRESHOLD_MISSED,
        (good[0], good[0], good[1], good[2]): ErrorReason.PROTOCOL_VIOLATION,
        (good[0], broken, good[2], good[3]): ErrorReason.SIGNATURE_INVALID,
        (good[0], good[2], good[3], outsider): ErrorReason.PROTOCOL_VIOLATION,
    }
    for signatures, reason in cases.items():
        request = replace(request_, signatures=signatures)
        refused(reason, partial(agent.reveal, request))
        assert agent.state == "CONFIRMED"
    assert len(agent.reveal(request_)) == 2


# --- states --------------------------------------------------------------------------------------------


def inputs(federation: Federation) -> dict[str, Callable[[Any], object]]:
    roster = federation.roster
    assert roster is not None
    survivors = SurvivorSet(survivors=(), bundles=())
    return {
        "finish_training": lambda a: a.finish_training(),
        "roster": lambda a: a.roster(roster, federation.roster_digest),
        "deliver": lambda a: a.deliver(ShareDelivery(mask_set=(), ciphertexts={})),
        "masked": lambda a: a.masked(Digest(bytes(32)), 0),
        "uploaded": lambda a: a.uploaded(),
        "survivors": lambda a: a.survivors(survivors),
        "reveal": lambda a: a.reveal(RevealRequest(survivor_set=survivors, signatures=())),
    }


TAKES = {
    "TRAINING": {"finish_training"},
    "ADVERTISED": {"roster"},
    "SHARING": {"deliver"},
    "MASKING": {"masked"},
    "UPLOADING": {"uploaded", "survivors"},
    "CONFIRMED": {"uploaded", "survivors", "reveal"},
    "REVEALED": {"survivors", "reveal"},
    "CLOSED": set(),
}


def check_refusals(federation: Federation, agent: Any) -> str:
    state: str = agent.state
    for name, feed in inputs(federation).items():
        if name not in TAKES[state]:
            with pytest.raises(StateError, match=state) as caught:
                feed(agent)
            assert caught.value.reason is ErrorReason.WRONG_STATE
            assert agent.state == state
    return state


def test_every_state_takes_its_own_inputs_only(federation: Federation, roster: Roster) -> None:
    fresh = federation.agent(0)
    seen = [check_refusals(federation, fresh)]
    agent = federation.agents[0]
    seen.append(check_refusals(federation, agent))
    deliveries = federation.share(EVERYONE)
    assert isinstance(deliveries, dict)
    seen.append(check_refusals(federation, agent))
    replay = federation.agent(0)
    replay.finish_training()
    replay.roster(roster, federation.roster_digest)
    replay.deliver(deliveries[0])
    seen.append(check_refusals(federation, replay))
    survivor_set = federation.upload(deliveries, EVERYONE)
    assert isinstance(survivor_set, SurvivorSet)
    seen.append(check_refusals(federation, agent))
    request = federation.confirm(EVERYONE)
    assert isinstance(request, RevealRequest)
    seen.append(check_refusals(federation, agent))
    agent.reveal(request)
    seen.append(check_refusals(federation, agent))
    agent.close()
    seen.append(check_refusals(federation, agent))
    assert seen == list(TAKES)


def test_a_replay_gives_the_same_bytes(federation: Federation, request_: RevealRequest) -> None:
    roster = federation.roster
    assert roster is not None
    once, again = federation.agents[2], federation.agent(2)
    assert again.finish_training()
    shares = again.roster(roster, federation.roster_digest)
    other = federation.agent(2)
    other.finish_training()
    assert other.roster(roster, federation.roster_digest) == shares
    assert once.reveal(request_)[-1] == once.reveal(request_)[-1]


def test_secrets_do_not_show_in_printed_values(federation: Federation, delivery: ShareDelivery) -> None:
    root = seeded("root", 0)
    effects = federation.agents[0].deliver(delivery)
    printed = repr(effects) + repr(vars(federation.agents[0])) + repr(delivery)
    assert repr(root) not in printed
    assert root.hex() not in printed
    for ciphertext in delivery.ciphertexts.values():
        assert repr(ciphertext) not in printed


def test_protocol_errors_are_one_sentence(federation: Federation, roster: Roster) -> None:
    with pytest.raises(ProtocolError) as caught:
        federation.agents[0].roster(_without(roster, 0), federation.roster_digest)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
