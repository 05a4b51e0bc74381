"""Sites that send nonsense: the culprit is dropped with reason protocol, the others commit, and their sum is exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plant import Plant, Site

from coordinator.rounds.replies import JobDetail
from coordinator.store.records import RoundRecord
from ravan.errors import ErrorReason, IdentityError, ProtocolError, StateError
from ravan.ids import Digest, JobId, SiteId
from ravan.manifest.instructions import ExchangeShares, Instruction, MaskAndUpload, Prepare
from ravan.manifest.phases import DropReason, JobState, RoundOutcome, RoundPhase
from ravan.manifest.roster import RosterEntry
from ravan.secagg.messages import (
    MaskedHeader,
    RevealedShares,
    SealedShares,
    SeedShare,
    SelfMaskShares,
    SurvivorSignature,
)
from ravan.secagg.shamir import PRIME

FLOOD = 1000


def ended(detail: JobDetail) -> bool:
    return detail.record.state in {JobState.COMPLETED, JobState.STOPPED, JobState.FAILED}


def lie(site: Site, kind: type, change: Callable[[Any], Any]) -> None:
    """Make a site change every message of one kind before it sends it."""
    honest_say, honest_upload = site.say, site._upload

    async def say(message: object, *, index: int | None = None) -> None:
        await honest_say(change(message) if isinstance(message, kind) else message, index=index)

    async def upload(header: MaskedHeader) -> None:
        await honest_upload(change(header) if kind is MaskedHeader else header)

    site.say = say  # type: ignore[method-assign]
    site._upload = upload  # type: ignore[method-assign]


def without_one(shares: SealedShares) -> SealedShares:
    return SealedShares(ciphertexts=dict(list(shares.ciphertexts.items())[1:]))


def longer(shares: SealedShares) -> SealedShares:
    return SealedShares(ciphertexts={i: c + b"\0" for i, c in shares.ciphertexts.items()})


def other_kind(revealed: RevealedShares) -> RevealedShares:
    return replace(revealed, shares=dict.fromkeys(revealed.shares, SeedShare(share=bytes(33))))


def no_field_elements(revealed: RevealedShares) -> RevealedShares:
    beyond = PRIME.to_bytes(33, "big")
    kept = {o: s for o, s in revealed.shares.items() if isinstance(s, SelfMaskShares)}
    shares = {o: SelfMaskShares(shares=dict.fromkeys(s.shares, beyond)) for o, s in kept.items()}
    return replace(revealed, shares=shares)


LIES: dict[str, tuple[type, Callable[[Any], Any], RoundPhase]] = {
    "round keys under a wrong signature": (
        RosterEntry,
        lambda m: replace(m, signature=bytes(64)),
        RoundPhase.TRAINING,
    ),
    "round keys of low order": (RosterEntry, lambda m: replace(m, mask_key=bytes(32)), RoundPhase.TRAINING),
    "one key for two uses": (RosterEntry, lambda m: replace(m, channel_key=m.mask_key), RoundPhase.TRAINING),
    "keys of wrong length": (RosterEntry, lambda m: replace(m, mask_key=bytes(31)), RoundPhase.TRAINING),
    "a share too few": (SealedShares, without_one, RoundPhase.SHARING),
    "shares of wrong length": (SealedShares, longer, RoundPhase.SHARING),
    "a vector of wrong length": (
        MaskedHeader,
        lambda m: replace(m, size_bytes=m.size_bytes + 3),
        RoundPhase.UPLOADING,
    ),
    "a vector of the wrong bundles": (
        MaskedHeader,
        lambda m: replace(m, bundles=m.bundles[:-1]),
        RoundPhase.UPLOADING,
    ),
    "a vector of another round": (
        MaskedHeader,
        lambda m: replace(m, mask_set_digest=Digest(bytes(32))),
        RoundPhase.UPLOADING,
    ),
    "a vector under a wrong signature": (
        MaskedHeader,
        lambda m: replace(m, signature=bytes(64)),
        RoundPhase.UPLOADING,
    ),
    "survivors under a wrong signature": (
        SurvivorSignature,
        lambda m: replace(m, signature=bytes(64)),
        RoundPhase.CONFIRMING,
    ),
    "shares for another survivor set": (
        RevealedShares,
        lambda m: replace(m, survivor_digest=Digest(bytes(32))),
        RoundPhase.REVEALING,
    ),
    "the wrong kind of shares": (RevealedShares, other_kind, RoundPhase.REVEALING),
    "shares that are none": (RevealedShares, no_field_elements, RoundPhase.REVEALING),
}


async def run(plant: Plant) -> tuple[RoundRecord, JobId]:
    await plant.connect_all()
    job_id = await plant.submit(rounds=1)
    return (await plant.until_ended(job_id, 1)), job_id


def values(plant: Plant) -> set[int]:
    """All values of all blocks of the one sum."""
    (total,) = plant.workbench.totals
    return {int(value) for summed in total.blocks.values() for value in summed.total}


@pytest.mark.parametrize("what", LIES)
async def test_a_site_that_sends_nonsense_is_dropped_and_the_others_commit(tmp_path: Path, what: str) -> None:
    kind, change, phase = LIES[what]
    async with Plant(tmp_path) as plant:
        lie(plant.sites[1], kind, change)
        record, _ = await run(plant)
        assert record.outcome is RoundOutcome.COMMITTED
        assert [(d.site, d.phase, d.reason) for d in record.dropped] == [("site-1", phase, DropReason.PROTOCOL)]
        assert plant.metrics.said.count(("dropped", phase, DropReason.PROTOCOL)) == 1
        assert plant.sites[1].refused[0].reason in {
            ErrorReason.PROTOCOL_VIOLATION,
            ErrorReason.SIGNATURE_INVALID,
            ErrorReason.MALFORMED,
        }
        # Member i sends i + 1 in every coordinate; a liar whose vector came before its lie is in the sum.
        with_it = phase in {RoundPhase.CONFIRMING, RoundPhase.REVEALING}
        assert values(plant) == {1 + 3 + 4 + (2 if with_it else 0)}


def spoil(revealed: RevealedShares) -> RevealedShares:
    """Shares of the right form that are wrong."""
    shares = {
        owner: SelfMaskShares(shares={b: bytes(33) for b in share.shares})
        for owner, share in revealed.shares.items()
        if isinstance(share, SelfMaskShares)
    }
    return replace(revealed, shares=shares)


async def test_wrong_shares_of_one_in_seven_are_left_out_and_the_sum_is_exact(tmp_path: Path) -> None:
    async with Plant(tmp_path, sites=7) as plant:
        lie(plant.sites[4], RevealedShares, spoil)
        record, _ = await run(plant)
        assert record.outcome is RoundOutcome.COMMITTED
        assert record.dropped == ()
        assert values(plant) == {28}


async def test_wrong_shares_that_cannot_be_told_from_right_ones_give_no_version(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        # Four answers where three are needed show that one is wrong, but not which.
        lie(plant.sites[1], RevealedShares, spoil)
        record, job_id = await run(plant)
        assert record.outcome is RoundOutcome.INTERNAL
        await plant.until(job_id, lambda detail: "name no culprit" in detail.record.message)
        assert plant.workbench.totals == []


async def test_a_value_that_no_honest_site_sends_gives_no_version(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        liar = plant.sites[1]
        honest = liar._vectors

        def vectors() -> dict[int, np.ndarray]:
            made = honest()
            # Behind the canary of bundle 1 comes the first value; with the others' 1 + 3 + 4 the sum is -2^23.
            made[1][1] = (1 << 23) - 8
            return made

        liar._vectors = vectors  # type: ignore[method-assign]
        record, job_id = await run(plant)
        assert record.outcome is RoundOutcome.INTERNAL
        await plant.until(job_id, lambda detail: "honest sites" in detail.record.message)
        assert plant.workbench.totals == []


async def test_a_vector_in_which_masks_do_not_cancel_gives_no_version(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        liar = plant.sites[1]
        honest = liar._vectors
        liar._vectors = lambda: {b: v + 1 for b, v in honest().items()}  # type: ignore[method-assign]
        record, job_id = await run(plant)
        assert record.outcome is RoundOutcome.CANARY_MISMATCH
        await plant.until(job_id, lambda detail: "bundle 0" in detail.record.message)
        assert plant.workbench.totals == []


# --- shares that do not open ----------------------------------------------------------------------------------


def sealed_for_nobody(shares: SealedShares) -> SealedShares:
    return SealedShares(ciphertexts={i: c[:-1] + bytes([c[-1] ^ 1]) for i, c in shares.ciphertexts.items()})


async def test_a_site_whose_shares_open_for_nobody_is_named_and_the_next_round_goes_on_without_it(
    tmp_path: Path,
) -> None:
    async with Plant(tmp_path) as plant:
        lie(plant.sites[1], SealedShares, sealed_for_nobody)
        record, job_id = await run(plant)
        assert record.outcome is RoundOutcome.TOO_FEW_SITES
        assert {drop.reason for drop in record.dropped} == {DropReason.PROTOCOL}
        # Among four one may lie, so the second complaint convicts, whichever of them comes first.
        assert plant.conductor._runners[job_id]._suspicions.convicted == {"site-1"}
        assert plant.workbench.totals == []
        # Another process of it does not get in either.
        await plant.sites[1].restart()
        plant.timers.advance(60)
        record = await plant.until_ended(job_id, 2)
        assert record.outcome is RoundOutcome.COMMITTED
        assert record.selected == ("site-0", "site-2", "site-3")
        assert values(plant) == {1 + 2 + 3}


async def test_an_operator_lets_a_named_site_in_again(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        honest = plant.sites[1].say
        lie(plant.sites[1], SealedShares, sealed_for_nobody)
        record, job_id = await run(plant)
        assert record.outcome is RoundOutcome.TOO_FEW_SITES
        await plant.conductor.pause_job(job_id)
        plant.sites[1].say = honest  # type: ignore[method-assign]
        await plant.conductor.resume_job(job_id)
        record = await plant.until_ended(job_id, 2)
        assert "site-1" in record.completed


async def test_one_site_alone_convicts_nobody(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        liar = plant.sites[2]
        honest = liar.answer

        async def answer(instruction: Instruction) -> None:
            if isinstance(instruction, MaskAndUpload):
                made_up = ProtocolError("made up", reason=ErrorReason.PROTOCOL_VIOLATION)
                made_up.suspect = 1
                raise made_up
            await honest(instruction)

        liar.answer = answer  # type: ignore[method-assign]
        await plant.connect_all()
        job_id = await plant.submit(rounds=3)
        detail = await plant.until(job_id, ended)
        assert [record.outcome for record in detail.rounds] == [RoundOutcome.COMMITTED] * 3
        for record in detail.rounds:
            assert [(drop.site, drop.reason) for drop in record.dropped] == [("site-2", DropReason.PROTOCOL)]
            assert "site-1" in record.completed


@pytest.mark.parametrize("suspect", [2, 99])
async def test_a_word_against_oneself_or_nobody_counts_for_nothing(tmp_path: Path, suspect: int) -> None:
    async with Plant(tmp_path) as plant:
        for site in plant.sites:
            site.mute = {MaskAndUpload}
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        await plant.until_phase(job_id, RoundPhase.UPLOADING)
        for site in plant.sites:
            await plant.conductor.accused(site.name, job_id, 1, suspect if suspect == 99 else site.index)
            await plant.conductor.accused(site.name, job_id, 7, 1)
            await plant.conductor.accused(SiteId("stranger"), job_id, 1, 1)
        runner = plant.conductor._runners[job_id]
        assert runner._suspicions.convicted == set()
        assert runner.round is not None
        assert runner.round.machine.absences == ()


async def test_an_instruction_that_a_site_cannot_read_ends_its_round_and_the_others_go_on(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        plant.sites[1].mute = {ExchangeShares}
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        await plant.until_phase(job_id, RoundPhase.SHARING)
        await plant.conductor.refused(SiteId("site-1"), DropReason.PROTOCOL)
        detail = await plant.until(job_id, ended)
        (record,) = detail.rounds
        assert record.outcome is RoundOutcome.COMMITTED
        assert [(drop.site, drop.reason) for drop in record.dropped] == [("site-1", DropReason.PROTOCOL)]


async def test_a_plan_that_a_site_cannot_read_is_not_waited_for(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        plant.sites[1].mute = {Prepare}
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        await plant.until(job_id, lambda detail: "for site-1" in detail.record.message)
        await plant.conductor.refused(SiteId("site-1"), DropReason.PROTOCOL)
        record = await plant.until_ended(job_id, 1)
        assert record.selected == ("site-0", "site-2", "site-3")


# --- floods ---------------------------------------------------------------------------------------------------


async def stored(plant: Plant) -> int:
    return sum([len(await plant.instructions(site.name)) for site in plant.sites])


async def test_a_flood_leaves_nothing_behind_and_holds_nobody_up(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        flooder = plant.sites[0]
        plant.sites[1].mute = {ExchangeShares}
        first: list[object] = []
        honest = flooder.say

        async def say(message: object, *, index: int | None = None) -> None:
            first.append(message)
            await honest(message, index=index)

        flooder.say = say  # type: ignore[method-assign]
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        await plant.until_phase(job_id, RoundPhase.SHARING)
        await plant.until(job_id, lambda _: len(first) == 2)
        active = plant.conductor._runners[job_id].round
        assert active is not None
        taken = active.machine._course.secagg._taken
        before, said, kept = len(taken), len(plant.metrics.said), await stored(plant)
        for _ in range(FLOOD):
            for message in first:
                await honest(message)
            with pytest.raises(IdentityError):
                await honest(first[0], index=1)
        assert (len(taken), len(plant.metrics.said), await stored(plant)) == (before, said, kept)
        with pytest.raises(ProtocolError):
            await honest(SealedShares(ciphertexts={}))
        for number in range(FLOOD):
            with pytest.raises(StateError):
                await honest(SealedShares(ciphertexts={number: b""}))
        assert len(taken) == before
        dropped = [entry for entry in plant.metrics.said if entry[0] == "dropped"]
        assert dropped == [("dropped", RoundPhase.SHARING, DropReason.PROTOCOL)]
        plant.sites[1].mute = set()
        await plant.sites[1].answer(next(i for i in plant.sites[1].heard if isinstance(i, ExchangeShares)))
        detail = await plant.until(job_id, ended)
        assert detail.rounds[0].outcome is RoundOutcome.COMMITTED
        assert values(plant) == {2 + 3 + 4}
