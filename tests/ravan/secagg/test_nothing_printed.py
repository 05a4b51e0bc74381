"""No value that holds a secret shows it when it is printed, as in a log or a trace."""

from __future__ import annotations

from typing import Any

import pytest
from coordinator_loot import holdings
from lying_coordinator import EVERYONE, uploaded
from secagg_driver import Federation, make_assignment, seeded

from ravan.manifest.roster import Roster
from ravan.secagg.decoding import Decoded
from ravan.secagg.keys import RoundKeys
from ravan.secagg.messages import RevealRequest, SealedShares, SeedShare, SelfMaskShares, ShareDelivery
from ravan.secagg.prg import SignedKey
from ravan.secagg.recovery import _Secret, _Solution, recover_secrets
from ravan.secagg.unmask import UnmaskJob


@pytest.fixture(scope="module")
def job() -> tuple[Federation, UnmaskJob]:
    federation = uploaded(uploaders=(0, 1, 2, 3))
    request = federation.confirm((0, 1, 2, 3))
    assert isinstance(request, RevealRequest)
    made = federation.reveal(request, (0, 1, 2, 3))
    assert isinstance(made, UnmaskJob)
    return federation, made


def byte_strings(value: Any) -> set[bytes]:
    """All byte strings of 16 bytes and more in a mapping of any depth."""
    if isinstance(value, bytes):
        return {value} if len(value) >= 16 else set()
    if isinstance(value, SeedShare):
        return {value.share}
    if isinstance(value, SelfMaskShares):
        return set(value.shares.values())
    return set().union(*(byte_strings(each) for each in value.values()))


def check_hidden(value: object, secrets: set[bytes]) -> None:
    assert secrets
    printed = repr(value)
    for secret in secrets:
        assert repr(secret) not in printed
        assert secret.hex() not in printed


def test_recovered_secrets(job: tuple[Federation, UnmaskJob]) -> None:
    _, made = job
    found = recover_secrets(made.roster, made.survivor_set, made.reveals)
    check_hidden(found, byte_strings(found.mask_seeds) | byte_strings(found.self_seeds))


def test_revealed_shares(job: tuple[Federation, UnmaskJob]) -> None:
    federation, made = job
    for holder, revealed in federation.revealed.items():
        check_hidden(revealed, byte_strings(revealed.shares))
        check_hidden(made, byte_strings(made.reveals[holder]))


def test_held_shares_and_states() -> None:
    federation = uploaded()
    for holder, held in holdings(federation).items():
        secrets = {held[0].seed} | byte_strings(held[0].self_seeds) | {seeded("root", holder)}
        state: Any = federation.agents[holder]._state
        for value in (held[0], state, state.view, state.view.context):
            check_hidden(value, secrets)
        assert repr(state.view.context.signer) not in repr(state)
    assert set(holdings(federation)) == set(EVERYONE)


def test_channel_keys() -> None:
    federation = Federation(make_assignment([(0,)] * 3))
    roster = federation.advertise((0, 1, 2))
    assert isinstance(roster, Roster)
    federation.agents[0].roster(roster, federation.roster_digest)
    state: Any = federation.agents[0]._state
    check_hidden(state, byte_strings(state.channels) | byte_strings(state.pairs) | {state.own.seed})


def test_what_recovery_has_in_hand() -> None:
    share = seeded("share").rjust(33, b"\0")
    check_hidden(_Secret(owner=0, shares={1: share}, public_key=None), {share})
    check_hidden(_Solution(secret=seeded("secret"), wrong=()), {seeded("secret")})
    check_hidden(Decoded(secret=seeded("secret"), wrong=()), {seeded("secret")})


def test_keys() -> None:
    check_hidden(RoundKeys(root=seeded("root")), {seeded("root")})
    check_hidden(SelfMaskShares(shares={0: seeded("share")}), {seeded("share")})
    check_hidden(SeedShare(share=seeded("share")), {seeded("share")})
    check_hidden(SealedShares(ciphertexts={0: seeded("sealed")}), {seeded("sealed")})
    check_hidden(ShareDelivery(mask_set=(), ciphertexts={0: seeded("sealed")}), {seeded("sealed")})
    check_hidden(SignedKey(key=seeded("key"), subtract=False), {seeded("key")})
