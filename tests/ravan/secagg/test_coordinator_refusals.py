"""What the coordinator's machine refuses, ignores and waits for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from secagg_driver import Federation, identity, make_assignment, only, refused, seeded, sole

from ravan.errors import ErrorReason
from ravan.ids import Digest
from ravan.manifest.roster import Roster
from ravan.secagg.coordinator import CoordinatorRound
from ravan.secagg.coordinator_states import Abort, AbortReason, Phase
from ravan.secagg.effects import Advertise, SendReveal, SendShares, SignSurvivors
from ravan.secagg.messages import (
    MaskedHeader,
    RevealedShares,
    RevealRequest,
    SealedShares,
    SeedShare,
    SelfMaskShares,
    SurvivorSet,
    SurvivorSignature,
)
from ravan.secagg.shamir import PRIME
from ravan.secagg.transcript import upload_bytes

EVERYONE = tuple(range(5))
VIOLATION, WRONG_STATE = ErrorReason.PROTOCOL_VIOLATION, ErrorReason.WRONG_STATE


@pytest.fixture
def federation() -> Federation:
    return Federation(make_assignment([(0, 1, 2), (0, 1, 2), (0, 1, 2), (0, 1), (0,)]))


@pytest.fixture
def coordinator(federation: Federation) -> CoordinatorRound:
    return federation.coordinator


def test_advertisements_in_anothers_name_or_with_used_keys(
    federation: Federation, coordinator: CoordinatorRound
) -> None:
    first = only(federation.agents[0].finish_training(), Advertise).advertisement
    second = only(federation.agents[1].finish_training(), Advertise).advertisement
    refused(VIOLATION, lambda: coordinator.advertised(1, first), "in the name of member 0")
    refused(VIOLATION, lambda: coordinator.advertised(0, second), "in the name of member 1")
    refused(VIOLATION, lambda: coordinator.advertised(7, replace(first, index=7)), "no part")
    refused(ErrorReason.SIGNATURE_INVALID, lambda: coordinator.advertised(1, replace(first, index=1)), "member 1")
    refused(VIOLATION, lambda: coordinator.advertised(0, replace(first, mask_key=b"")))
    coordinator.advertised(0, first)
    refused(VIOLATION, lambda: coordinator.advertised(0, replace(first, signature=bytes(64))), "second")
    thief = federation.agent(1, root=seeded("root", 0))
    reused = only(thief.finish_training(), Advertise).advertisement
    refused(VIOLATION, lambda: coordinator.advertised(1, reused), "serves twice")
    coordinator.advertised(1, second)
    assert coordinator.missing == (2, 3, 4)


def test_repeats_are_ignored_in_every_phase_and_contradictions_never(
    federation: Federation, coordinator: CoordinatorRound
) -> None:
    advertisement = only(federation.agents[0].finish_training(), Advertise).advertisement
    coordinator.advertised(0, advertisement)
    coordinator.advertised(0, advertisement)
    federation.agents[0] = federation.agent(0)
    federation.advertise(EVERYONE)
    coordinator.advertised(0, advertisement)
    changed = replace(advertisement, signature=bytes(64))
    refused(VIOLATION, lambda: coordinator.advertised(0, changed), "differs from its first")


def test_no_round_is_led_under_an_assignment_that_sites_would_refuse(federation: Federation) -> None:
    small = replace(federation.assignment, bundle_threshold=2)
    refused(
        ErrorReason.THRESHOLD_MISSED, lambda: CoordinatorRound(assignment=small, assignment_digest=federation.digest)
    )


def test_every_kind_of_message_counts_once_and_may_come_again_after_its_phase(
    federation: Federation, coordinator: CoordinatorRound
) -> None:
    federation.agents[0] = federation.agent(0)
    first = only(federation.agent(0).finish_training(), Advertise).advertisement
    roster = federation.advertise(EVERYONE)
    assert isinstance(roster, Roster)
    again = federation.agent(0)
    again.finish_training()
    shares = only(again.roster(roster, federation.roster_digest), SendShares).shares
    deliveries = federation.share(EVERYONE)
    assert isinstance(deliveries, dict)
    headers = {i: federation.mask(i, delivery).header for i, delivery in deliveries.items()}
    for i, header in headers.items():
        coordinator.uploaded(i, header)
        coordinator.verify_upload(i, header)
        coordinator.uploaded(i, header)
    survivor_set = sole(coordinator.close_upload())
    assert isinstance(survivor_set, SurvivorSet)
    federation.survivor_set = survivor_set
    signature = only(federation.agents[0].survivors(survivor_set), SignSurvivors).signature
    request = federation.confirm(EVERYONE)
    assert isinstance(request, RevealRequest)
    federation.reveal(request, EVERYONE)
    assert coordinator.phase is Phase.UNMASK
    revealed = federation.revealed[0]
    coordinator.advertised(0, first)
    coordinator.shares(0, shares)
    coordinator.verify_upload(0, headers[0])
    coordinator.uploaded(0, headers[0])
    coordinator.survivor_signature(0, signature)
    coordinator.revealed(0, revealed)
    assert coordinator.phase is Phase.UNMASK
    nothing = Digest(bytes(32))
    for contradict in (
        partial(coordinator.advertised, 0, replace(first, signature=b"")),
        partial(coordinator.shares, 0, SealedShares(ciphertexts={})),
        partial(coordinator.verify_upload, 0, replace(headers[0], sha256=nothing)),
        partial(coordinator.uploaded, 0, replace(headers[0], sha256=nothing)),
        partial(coordinator.survivor_signature, 0, replace(signature, signature=b"")),
        partial(coordinator.revealed, 0, replace(revealed, survivor_digest=nothing)),
    ):
        refused(VIOLATION, contradict, "differs from its first")


def test_phases_tell_whom_they_wait_for(federation: Federation, coordinator: CoordinatorRound) -> None:
    assert (coordinator.phase, coordinator.missing) == (Phase.ADVERTISE, EVERYONE)
    for i in (0, 1):
        coordinator.advertised(i, only(federation.agents[i].finish_training(), Advertise).advertisement)
    coordinator.lost(2)
    coordinator.lost(3)
    assert list(coordinator.missing) == [4]
    coordinator.advertised(4, only(federation.agents[4].finish_training(), Advertise).advertisement)
    assert not coordinator.missing
    # A member that was thought lost still counts when it answers in time; a finisher that is lost since does not.
    coordinator.advertised(3, only(federation.agents[3].finish_training(), Advertise).advertisement)
    coordinator.lost(0)
    assert not coordinator.missing
    roster = sole(coordinator.close_advertise())
    assert isinstance(roster, Roster)
    assert [entry.index for entry in roster.entries] == [1, 3, 4]
    assert coordinator.phase is Phase.PUBLISH
    assert not coordinator.missing


def test_sealed_shares_must_reach_everybody_in_the_right_size(
    federation: Federation, coordinator: CoordinatorRound
) -> None:
    roster = federation.advertise((0, 1, 2, 3))
    assert isinstance(roster, Roster)
    shares = only(federation.agents[0].roster(roster, federation.roster_digest), SendShares).shares
    full = dict(shares.ciphertexts)
    wrong = [
        {i: c for i, c in full.items() if i != 1},
        {**full, 4: full[1]},
        {**full, 0: full[1]},
        {**full, 1: full[1][:-1]},
        {**full, 1: full[1] + b"\0"},
    ]
    for ciphertexts in wrong:
        refused(VIOLATION, partial(coordinator.shares, 0, SealedShares(ciphertexts=ciphertexts)))
    refused(VIOLATION, lambda: coordinator.shares(4, shares), "no part")
    coordinator.shares(0, shares)
    assert coordinator.missing == (1, 2, 3)


@pytest.fixture
def header(federation: Federation) -> MaskedHeader:
    federation.advertise(EVERYONE)
    deliveries = federation.share(EVERYONE)
    assert isinstance(deliveries, dict)
    headers = [federation.mask(i, delivery).header for i, delivery in deliveries.items()]
    for header in headers[1:]:
        federation.coordinator.uploaded(header.index, header)
    return headers[0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"index": 1}, VIOLATION),
        ({"index": -1}, VIOLATION),
        ({"mask_set_digest": Digest(bytes(32))}, VIOLATION),
        ({"mask_set_digest": Digest(b"\xff" * 32)}, VIOLATION),
        ({"bundles": (0, 1, 2)}, VIOLATION),
        ({"bundles": (0, 1, 2, 3, 4)}, VIOLATION),
        ({"size_bytes": 3}, VIOLATION),
        ({"size_bytes": 1 << 40}, VIOLATION),
        ({"sha256": Digest(b"")}, VIOLATION),
        ({"sha256": Digest(bytes(33))}, VIOLATION),
        ({"sha256": Digest(bytes(32))}, ErrorReason.SIGNATURE_INVALID),
        ({"signature": bytes(64)}, ErrorReason.SIGNATURE_INVALID),
    ],
    ids=str,
)
def test_upload_header_that_does_not_hold(
    federation: Federation, header: MaskedHeader, changes: Any, reason: ErrorReason
) -> None:
    for take in (federation.coordinator.verify_upload, federation.coordinator.uploaded):
        refused(reason, partial(take, 0, replace(header, **changes)))
    assert list(federation.coordinator.missing) == [0]
    federation.coordinator.verify_upload(0, header)
    assert list(federation.coordinator.missing) == [0]
    federation.coordinator.uploaded(0, header)
    assert not federation.coordinator.missing


def test_a_vector_of_one_who_shared_nothing_is_refused(federation: Federation, coordinator: CoordinatorRound) -> None:
    federation.advertise(EVERYONE)
    deliveries = federation.share((0, 1, 2, 3))
    assert isinstance(deliveries, dict)
    theirs = federation.mask(3, deliveries[3]).header
    # Member 4 trains tile 0 alone, so that bundles 0 and 1 are its own; all else it copies.
    size = 3 * sum(len(federation.vectors[3][bundle]) for bundle in (0, 1))
    message = upload_bytes(theirs.mask_set_digest, 4, (0, 1), size, theirs.sha256)
    own = replace(theirs, index=4, bundles=(0, 1), size_bytes=size, signature=identity(4).sign(message))
    for take in (coordinator.verify_upload, coordinator.uploaded):
        refused(VIOLATION, partial(take, 4, own), "no part")


def test_late_upload_is_refused_and_its_member_stays_dropped(federation: Federation, header: MaskedHeader) -> None:
    coordinator = federation.coordinator
    survivor_set = sole(coordinator.close_upload())
    assert isinstance(survivor_set, SurvivorSet)
    assert survivor_set == SurvivorSet(survivors=(1, 2, 3, 4), bundles=(0, 1, 2))
    refused(WRONG_STATE, lambda: coordinator.verify_upload(0, header), "CONFIRMATION")
    refused(WRONG_STATE, lambda: coordinator.uploaded(0, header), "CONFIRMATION")
    refused(VIOLATION, lambda: federation.agents[0].survivors(survivor_set), "declares this site dropped")


@pytest.fixture
def confirmed(federation: Federation, header: MaskedHeader) -> SurvivorSet:
    survivor_set = sole(federation.coordinator.close_upload())
    assert isinstance(survivor_set, SurvivorSet)
    federation.survivor_set = survivor_set
    return survivor_set


def test_survivor_signatures_must_hold(federation: Federation, confirmed: SurvivorSet) -> None:
    coordinator = federation.coordinator
    good = only(federation.agents[1].survivors(confirmed), SignSurvivors).signature
    refused(VIOLATION, lambda: coordinator.survivor_signature(0, replace(good, index=0)), "no part")
    for other in (2, 3):
        theirs = only(federation.agents[other].survivors(confirmed), SignSurvivors).signature
        refused(VIOLATION, partial(coordinator.survivor_signature, other, good), "in the name of member 1")
        refused(VIOLATION, partial(coordinator.survivor_signature, 1, theirs), f"in the name of member {other}")
    foreign = SurvivorSignature(index=1, signature=identity(1).sign(b"something else"))
    refused(ErrorReason.SIGNATURE_INVALID, lambda: coordinator.survivor_signature(1, foreign))
    coordinator.survivor_signature(1, good)
    assert coordinator.missing == (2, 3, 4)


def test_revealed_shares_must_be_of_the_right_kind(federation: Federation, confirmed: SurvivorSet) -> None:
    request = federation.confirm(confirmed.survivors)
    assert federation.coordinator.phase is Phase.REVEAL
    good = only(federation.agents[1].reveal(request), SendReveal).shares  # type: ignore[arg-type]
    seed, own = good.shares[0], good.shares[1]
    assert isinstance(seed, SeedShare)
    assert isinstance(own, SelfMaskShares)
    garbage = PRIME.to_bytes(33, "big")
    wrong: dict[str, tuple[dict[int, Any], ErrorReason]] = {
        "self share of a dropped member": ({0: own}, VIOLATION),
        "seed share of a survivor": ({1: seed}, VIOLATION),
        "withheld bundle": ({1: SelfMaskShares(shares={**own.shares, 3: seed.share})}, VIOLATION),
        "bundle missing": ({1: SelfMaskShares(shares={0: own.shares[0]})}, VIOLATION),
        "no field element": ({0: SeedShare(share=garbage)}, ErrorReason.MALFORMED),
        "short": ({1: SelfMaskShares(shares={**own.shares, 0: b"short"})}, ErrorReason.MALFORMED),
        "unknown owner": ({9: seed}, VIOLATION),
    }
    for changes, reason in wrong.values():
        message = replace(good, shares={**good.shares, **changes})
        refused(reason, partial(federation.coordinator.revealed, 1, message))
    missing_owner = replace(good, shares={o: s for o, s in good.shares.items() if o != 0})
    refused(VIOLATION, lambda: federation.coordinator.revealed(1, missing_owner))
    for digest in (bytes(32), b"\xff" * 32):
        other_set = RevealedShares(survivor_digest=Digest(digest), shares=good.shares)
        refused(VIOLATION, partial(federation.coordinator.revealed, 1, other_set), "another survivor set")
    refused(VIOLATION, lambda: federation.coordinator.revealed(0, good), "no part")
    federation.coordinator.revealed(1, good)
    assert federation.coordinator.missing == (2, 3, 4)


INPUTS: dict[str, Callable[[CoordinatorRound], object]] = {
    "advertised": lambda c: c.advertised(0, None),  # type: ignore[arg-type]
    "close_advertise": lambda c: c.close_advertise(),
    "rosters_published": lambda c: c.rosters_published([Digest(bytes(32))]),
    "shares": lambda c: c.shares(0, None),  # type: ignore[arg-type]
    "close_sharing": lambda c: c.close_sharing(),
    "verify_upload": lambda c: c.verify_upload(0, None),  # type: ignore[arg-type]
    "uploaded": lambda c: c.uploaded(0, None),  # type: ignore[arg-type]
    "close_upload": lambda c: c.close_upload(),
    "survivor_signature": lambda c: c.survivor_signature(0, None),  # type: ignore[arg-type]
    "close_confirmation": lambda c: c.close_confirmation(),
    "revealed": lambda c: c.revealed(0, None),  # type: ignore[arg-type]
    "close_reveal": lambda c: c.close_reveal(),
}

TAKES = {
    Phase.ADVERTISE: {"advertised", "close_advertise"},
    Phase.PUBLISH: {"rosters_published"},
    Phase.SHARING: {"shares", "close_sharing"},
    Phase.UPLOAD: {"verify_upload", "uploaded", "close_upload"},
    Phase.CONFIRMATION: {"survivor_signature", "close_confirmation"},
    Phase.REVEAL: {"revealed", "close_reveal"},
    Phase.UNMASK: set(),
}


def check_refusals(coordinator: CoordinatorRound) -> Phase:
    phase = coordinator.phase
    for name, feed in INPUTS.items():
        if name not in TAKES.get(phase, set()):
            refused(WRONG_STATE, partial(feed, coordinator), phase.value)
            assert coordinator.phase is phase
    return phase


def test_every_phase_takes_its_own_inputs_only(federation: Federation, coordinator: CoordinatorRound) -> None:
    seen = [check_refusals(coordinator)]
    for i in EVERYONE:
        coordinator.advertised(i, only(federation.agents[i].finish_training(), Advertise).advertisement)
    roster = sole(coordinator.close_advertise())
    assert isinstance(roster, Roster)
    federation.roster = roster
    seen.append(check_refusals(coordinator))
    coordinator.rosters_published([federation.roster_digest])
    seen.append(check_refusals(coordinator))
    deliveries = federation.share(EVERYONE)
    assert isinstance(deliveries, dict)
    seen.append(check_refusals(coordinator))
    federation.upload(deliveries, EVERYONE)
    seen.append(check_refusals(coordinator))
    request = federation.confirm(EVERYONE)
    seen.append(check_refusals(coordinator))
    federation.reveal(request, EVERYONE)  # type: ignore[arg-type]
    seen.append(check_refusals(coordinator))
    assert seen == list(TAKES)


def test_after_an_abort_nothing_is_taken(coordinator: CoordinatorRound) -> None:
    coordinator.close_advertise()
    assert check_refusals(coordinator) is Phase.ABORTED
    assert not coordinator.missing
    coordinator.lost(0)
    assert coordinator.phase is Phase.ABORTED


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (AbortReason.BELOW_SHAMIR_THRESHOLD, "Only 4 sites answered, or still can, in phase UPLOAD; 5 must."),
        (AbortReason.BELOW_COHORT, "Only 4 sites answered, or still can, in phase UPLOAD; 5 must."),
        (AbortReason.NO_BUNDLE, "No bundle has enough of the 4 sites that answered in phase UPLOAD."),
    ],
)
def test_the_end_of_a_round_says_what_was_missing(reason: AbortReason, sentence: str) -> None:
    assert str(Abort(phase=Phase.UPLOAD, reason=reason, answered=4, needed=5)) == sentence
