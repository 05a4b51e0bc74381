"""Unmasking when somebody lied: wrong shares, altered payloads, views that differ."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Sequence
from dataclasses import replace

import pytest
from secagg_driver import Federation, make_assignment, only

from ravan.errors import ErrorReason, ProtocolError
from ravan.ids import Digest
from ravan.manifest.roster import Roster
from ravan.secagg.effects import Mask
from ravan.secagg.masking import mask_vectors
from ravan.secagg.messages import SeedShare, SelfMaskShares, ShareDelivery
from ravan.secagg.unmask import UnmaskJob, unmask

EVERYONE = tuple(range(8))


@pytest.fixture(scope="module")
def federation() -> Federation:
    """Eight members, t = 6; nobody changes it after its round."""
    return Federation(make_assignment([(0, 1)] * 8, lengths=(5, 3)))


@pytest.fixture(scope="module")
def job(federation: Federation) -> UnmaskJob:
    """All revealed; member 7 dropped at the upload."""
    return federation.run_to_job(EVERYONE, EVERYONE, range(7), range(7))


def spoil(share: bytes) -> bytes:
    return (int.from_bytes(share, "big") ^ 1).to_bytes(33, "big")


def with_bad_shares(job: UnmaskJob, holders: Sequence[int], owner: int, *, answers: int = 7) -> UnmaskJob:
    reveals = {h: dict(job.reveals[h]) for h in range(answers)}
    for holder in holders:
        shared = reveals[holder][owner]
        if isinstance(shared, SeedShare):
            reveals[holder][owner] = SeedShare(share=spoil(shared.share))
        else:
            reveals[holder][owner] = SelfMaskShares(shares={b: spoil(s) for b, s in shared.shares.items()})
    return replace(job, reveals=reveals)


def fails(reason: ErrorReason, federation: Federation, job: UnmaskJob, match: str = ".") -> None:
    with pytest.raises(ProtocolError, match=match) as caught:
        federation.unmask(job)
    assert caught.value.reason is reason


def check_exact(federation: Federation, job: UnmaskJob, suspects: tuple[int, ...]) -> None:
    result = federation.unmask(job)
    assert result.suspects == suspects
    assert set(result.sums) == {0, 1}
    for bundle, total in result.sums.items():
        assert total.tolist() == federation.plain_sum(bundle, range(7))


def test_an_honest_job_is_exact_also_after_a_trip_to_another_process(federation: Federation, job: UnmaskJob) -> None:
    check_exact(federation, pickle.loads(pickle.dumps(job)), ())  # noqa: S301 - our own bytes


@pytest.mark.parametrize("culprit", [0, 3, 6])
def test_a_wrong_share_of_a_dropped_member_names_its_holder(
    federation: Federation, job: UnmaskJob, culprit: int
) -> None:
    check_exact(federation, with_bad_shares(job, [culprit], 7), (culprit,))


def test_with_t_answers_a_wrong_seed_share_is_noticed_by_the_public_key(federation: Federation, job: UnmaskJob) -> None:
    fails(ErrorReason.PROTOCOL_VIOLATION, federation, with_bad_shares(job, [2], 7, answers=6), "member 7")


def test_with_t_plus_1_answers_a_wrong_self_share_is_noticed_but_names_nobody(
    federation: Federation, job: UnmaskJob
) -> None:
    fails(ErrorReason.PROTOCOL_VIOLATION, federation, with_bad_shares(job, [2], 1), "member 1")


def test_with_t_answers_a_wrong_self_share_spoils_the_check_values(federation: Federation, job: UnmaskJob) -> None:
    fails(ErrorReason.CANARY_MISMATCH, federation, with_bad_shares(job, [2], 1, answers=6), "bundle 0")


def test_with_t_plus_2_answers_a_wrong_self_share_names_its_holder() -> None:
    federation = Federation(make_assignment([(0, 1)] * 8, lengths=(5, 3)))
    job = federation.run_to_job(EVERYONE, EVERYONE, EVERYONE, EVERYONE)
    result = federation.unmask(with_bad_shares(job, [5], 1, answers=8))
    assert result.suspects == (5,)
    assert all(total.tolist() == federation.plain_sum(b, EVERYONE) for b, total in result.sums.items())
    fails(ErrorReason.PROTOCOL_VIOLATION, federation, with_bad_shares(job, [4, 5], 1, answers=8), "no culprit")


def test_more_answers_name_more_liars() -> None:
    # Sixteen members, t = 11: five answers more than needed show two wrong ones, or three where a key is known.
    everyone = range(16)
    federation = Federation(make_assignment([(0, 1)] * 16, lengths=(5, 3)))
    job = federation.run_to_job(everyone, everyone, everyone, everyone)
    for owner, liars in ((2, (3, 14)), (11, (0, 15))):
        result = federation.unmask(with_bad_shares(job, liars, owner, answers=16))
        assert result.suspects == liars
        assert all(total.tolist() == federation.plain_sum(b, everyone) for b, total in result.sums.items())
    fails(ErrorReason.PROTOCOL_VIOLATION, federation, with_bad_shares(job, (1, 3, 14), 2, answers=16), "no culprit")


def test_a_public_key_shows_one_wrong_share_more() -> None:
    # Fifteen answers, t = 11: two wrong ones at most; fourteen: one by the shares alone, two by the key.
    everyone, uploaders = range(16), range(14)
    federation = Federation(make_assignment([(0, 1)] * 16, lengths=(5, 3)))
    job = federation.run_to_job(everyone, everyone, uploaders, uploaders)
    result = federation.unmask(with_bad_shares(job, (4, 13), 15, answers=14))
    assert result.suspects == (4, 13)
    assert all(total.tolist() == federation.plain_sum(b, uploaders) for b, total in result.sums.items())
    fails(ErrorReason.PROTOCOL_VIOLATION, federation, with_bad_shares(job, (4, 13), 2, answers=14), "member 2")


def test_a_liar_about_everybody_is_named_once_and_the_sum_is_exact() -> None:
    federation = Federation(make_assignment([(0, 1)] * 8, lengths=(5, 3)))
    job = federation.run_to_job(EVERYONE, EVERYONE, EVERYONE, EVERYONE)
    for owner in EVERYONE:
        job = with_bad_shares(job, [3], owner, answers=8)
    result = federation.unmask(job)
    assert result.suspects == (3,)
    assert all(total.tolist() == federation.plain_sum(b, EVERYONE) for b, total in result.sums.items())


def test_who_was_wrong_once_is_left_out_so_that_another_liar_is_found() -> None:
    everyone = range(16)
    federation = Federation(make_assignment([(0, 1)] * 16, lengths=(5, 3)))
    job = federation.run_to_job(everyone, everyone, everyone, everyone)
    job = with_bad_shares(job, (3, 14), 2, answers=16)
    # Three at once are one too many, but two of them are known by now.
    result = federation.unmask(with_bad_shares(job, (3, 7, 14), 5, answers=16))
    assert result.suspects == (3, 7, 14)
    assert all(total.tolist() == federation.plain_sum(b, everyone) for b, total in result.sums.items())


def test_an_owner_who_dealt_two_holders_wrong_shares_does_not_silence_them() -> None:
    # Sixteen members, t = 11: after two owners with two holders each, ten unsuspected ones would not do.
    everyone = range(16)
    federation = Federation(make_assignment([(0, 1)] * 16, lengths=(5, 3)))
    job = federation.run_to_job(everyone, everyone, everyone, everyone)
    framed = {0: (10, 11), 1: (12, 13), 2: (14, 15)}
    for owner, holders in framed.items():
        job = with_bad_shares(job, holders, owner, answers=16)
    result = federation.unmask(job)
    assert result.suspects == (10, 11, 12, 13, 14, 15)
    assert all(total.tolist() == federation.plain_sum(b, everyone) for b, total in result.sums.items())


def test_fewer_than_t_answers_are_refused(federation: Federation, job: UnmaskJob) -> None:
    fails(ErrorReason.THRESHOLD_MISSED, federation, with_bad_shares(job, [], 1, answers=5), "Only 5")


# Bundle 0 of this federation: canary, 8 limbs, 6 values, clip flag, canary.
@pytest.mark.parametrize("coordinate", [0, 16])
def test_an_altered_check_value_is_named_with_its_bundle(
    federation: Federation, job: UnmaskJob, coordinate: int
) -> None:
    def opened(index: int) -> io.BytesIO:
        payload = bytearray(federation.payloads[index])
        if index == 3:
            payload[2 * coordinate] ^= 1
        return io.BytesIO(payload)

    with pytest.raises(ProtocolError, match="bundle 0") as caught:
        unmask(job, opened)
    assert caught.value.reason is ErrorReason.CANARY_MISMATCH


def test_a_payload_cut_short_is_refused(federation: Federation, job: UnmaskJob) -> None:
    def opened(index: int) -> io.BytesIO:
        return io.BytesIO(federation.payloads[index][: -1 if index == 4 else None])

    with pytest.raises(ProtocolError, match="member 4") as caught:
        unmask(job, opened)
    assert caught.value.reason is ErrorReason.MALFORMED


def test_members_that_were_shown_different_mask_sets_do_not_cancel() -> None:
    federation = Federation(make_assignment([(0, 1)] * 5, lengths=(5, 3)))
    job = federation.run_to_job(range(5), range(5), range(4), range(4))
    roster = federation.roster
    assert isinstance(roster, Roster)
    deliveries = {
        i: ShareDelivery(mask_set=(0, 1, 2, 3), ciphertexts=dict.fromkeys({0, 1, 2, 3} - {i}, b"")) for i in range(4)
    }
    narrowed = federation.agent(0)
    narrowed.finish_training()
    narrowed.roster(roster, federation.roster_digest)
    sealed = {}
    for sender in (1, 2, 3):
        other = federation.agent(sender)
        other.finish_training()
        (effect,) = other.roster(roster, federation.roster_digest)
        sealed[sender] = effect.shares.ciphertexts[0]  # type: ignore[union-attr]
    masked = only(narrowed.deliver(replace(deliveries[0], ciphertexts=sealed)), Mask).job
    federation.payloads[0] = bytes(mask_vectors(masked, federation.vectors[0]))
    fails(ErrorReason.CANARY_MISMATCH, federation, job, "bundle 0")


def test_members_that_were_shown_different_rosters_cannot_open_each_others_shares() -> None:
    federation = Federation(make_assignment([(0, 1)] * 5, lengths=(5, 3)))
    roster = federation.advertise(range(5))
    assert isinstance(roster, Roster)
    victim = federation.agents[0]
    other_digest = Digest(hashlib.sha256(b"another roster").digest())
    victim.roster(roster, other_digest)
    sealed = {}
    for sender in range(1, 5):
        (effect,) = federation.agents[sender].roster(roster, federation.roster_digest)
        sealed[sender] = effect.shares.ciphertexts[0]  # type: ignore[union-attr]
    with pytest.raises(ProtocolError, match="altered"):
        victim.deliver(ShareDelivery(mask_set=tuple(range(5)), ciphertexts=sealed))
