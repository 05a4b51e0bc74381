"""Whole rounds in memory: every pattern of drop-outs that leaves t gives the exact sum."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import pytest
from secagg_driver import DENSE, Federation, head, make_assignment, statistics_of

from ravan.manifest.plan import Denominator
from ravan.manifest.roster import Roster
from ravan.secagg.bundles import shamir_threshold
from ravan.secagg.combine import Withheld, WithheldReason, decode_sums
from ravan.secagg.coordinator_states import Abort, AbortReason, Phase
from ravan.secagg.messages import RevealRequest, SeedShare, SelfMaskShares, SurvivorSet
from ravan.secagg.packing import PAGE_ELEMENTS

TILES = [(0, 1, 2), (0, 1, 2), (0, 1, 2), (0, 1), (0,), (0, 2)]

Group = tuple[int, ...]


def subsets(group: Group, least: int) -> Iterator[Group]:
    for size in range(least, len(group) + 1):
        yield from combinations(group, size)


def patterns(members: int) -> Iterator[tuple[Group, Group, Group, Group]]:
    """Every (finishers, sharers, uploaders, revealers) of a federation that leaves t at each step."""
    for finishers in subsets(tuple(range(members)), 3):
        t = shamir_threshold(len(finishers))
        for sharers in subsets(finishers, t):
            for uploaders in subsets(sharers, t):
                for revealers in subsets(uploaders, t):
                    yield finishers, sharers, uploaders, revealers


def check_exact(federation: Federation, pattern: tuple[Group, Group, Group, Group]) -> None:
    finishers, sharers, uploaders, revealers = pattern
    result = federation.run(finishers=finishers, sharers=sharers, uploaders=uploaders, revealers=revealers)
    assert federation.roster is not None
    cohorts = {b.bundle_id: set(b.members).intersection(uploaders) for b in federation.roster.bundles}
    assert set(result.sums) == {b for b, alive in cohorts.items() if len(alive) >= 3}
    assert result.suspects == ()
    for bundle, total in result.sums.items():
        assert total.tolist() == federation.plain_sum(bundle, uploaders), (pattern, bundle)


@pytest.mark.parametrize("members", [3, 4, 5, 6])
def test_every_drop_pattern_that_leaves_t_gives_the_exact_sum(members: int) -> None:
    for pattern in patterns(members):
        check_exact(Federation(make_assignment(TILES[:members])), pattern)


def test_bundles_longer_than_a_page_are_exact() -> None:
    assignment = make_assignment([(0, 1)] * 4, lengths=(PAGE_ELEMENTS + 3, 5), dense=2 * PAGE_ELEMENTS)
    check_exact(Federation(assignment), ((0, 1, 2, 3), (0, 1, 2, 3), (0, 2, 3), (0, 2, 3)))


def test_thin_bundle_is_withheld_and_none_of_its_secrets_is_revealed() -> None:
    federation = Federation(make_assignment(TILES[:5]))
    result = federation.run(finishers=range(5), sharers=range(5), uploaders=(0, 1, 3, 4), revealers=(0, 1, 3, 4))
    assert set(result.sums) == {0, 1, 2}
    for reveal in federation.revealed.values():
        for owner, shares in reveal.shares.items():
            assert isinstance(shares, SeedShare) == (owner == 2)
            if isinstance(shares, SelfMaskShares):
                assert 3 not in shares.shares
    total = decode_sums(federation.assignment, [result], Denominator.TRAINERS)
    assert total.withheld == (
        Withheld(bundle_id=3, reason=WithheldReason.THIN, blocks=(head(2),), survivors=2, threshold=3),
    )
    assert list(total.blocks) == [DENSE, head(0), head(1)]


def test_statistics_and_counts_of_a_round() -> None:
    federation = Federation(make_assignment([*TILES[:4], (0,)]))
    result = federation.run(finishers=range(5), sharers=range(5), uploaders=(0, 1, 2, 4), revealers=(0, 1, 2, 4))
    by_trainers = decode_sums(federation.assignment, [result], Denominator.TRAINERS)
    by_cohort = decode_sums(federation.assignment, [result], Denominator.COHORT)
    survivors = [statistics_of(i) for i in (0, 1, 2, 4)]
    assert by_trainers.statistics.examples == sum(s.examples for s in survivors)
    assert by_trainers.statistics.loss_sum == sum(s.loss_sum for s in survivors)
    assert {block: s.count for block, s in by_trainers.blocks.items()} == {DENSE: 4, head(0): 4, head(1): 3, head(2): 3}
    # The driver puts +Q and -Q first, so their mean is the clip bound of the block.
    assert by_trainers.blocks[head(2)].mean[:2].tolist() == [2.5, -2.5]
    assert by_cohort.blocks[head(2)].mean[:2].tolist() == [2.5 * 3 / 4, -2.5 * 3 / 4]


def abort(result: object, phase: Phase, answered: int, needed: int) -> AbortReason:
    assert isinstance(result, Abort), result
    assert (result.phase, result.answered, result.needed) == (phase, answered, needed)
    return result.reason


def test_too_few_at_each_phase_abort_without_a_reveal() -> None:
    def fresh() -> Federation:
        return Federation(make_assignment([(0, 1, 2)] * 5))

    assert abort(fresh().advertise((0, 1)), Phase.ADVERTISE, 2, 3) is AbortReason.BELOW_COHORT

    sharing = fresh()
    sharing.advertise(range(5))
    assert abort(sharing.share((0, 1, 2)), Phase.SHARING, 3, 4) is AbortReason.BELOW_SHAMIR_THRESHOLD

    uploading = fresh()
    uploading.advertise(range(5))
    deliveries = uploading.share(range(5))
    assert isinstance(deliveries, dict)
    assert abort(uploading.upload(deliveries, (0, 1, 2)), Phase.UPLOAD, 3, 4) is AbortReason.BELOW_SHAMIR_THRESHOLD

    confirming = fresh()
    confirming.advertise(range(5))
    deliveries = confirming.share(range(5))
    assert isinstance(deliveries, dict)
    assert isinstance(confirming.upload(deliveries, range(5)), SurvivorSet)
    assert abort(confirming.confirm((1, 2, 3)), Phase.CONFIRMATION, 3, 4) is AbortReason.BELOW_SHAMIR_THRESHOLD
    assert all(f.revealed == {} for f in (sharing, uploading, confirming))
    assert confirming.coordinator.phase is Phase.ABORTED


def test_too_few_answers_at_the_reveal_abort() -> None:
    federation = Federation(make_assignment([(0, 1, 2)] * 5))
    assert isinstance(federation.advertise(range(5)), Roster)
    request = federation.run_to_request(range(5), range(5))
    assert abort(federation.reveal(request, (0, 1, 2)), Phase.REVEAL, 3, 4) is AbortReason.BELOW_SHAMIR_THRESHOLD


def test_enough_for_shamir_but_not_for_any_bundle_aborts() -> None:
    federation = Federation(make_assignment([(0, 1, 2)] * 5, threshold=5))
    assert isinstance(federation.advertise(range(5)), Roster)
    assert abort(federation.share((0, 1, 2, 3)), Phase.SHARING, 4, 5) is AbortReason.BELOW_COHORT


def test_a_signature_lost_after_t_does_not_stop_the_round() -> None:
    federation = Federation(make_assignment([(0, 1, 2)] * 5))
    federation.advertise(range(5))
    deliveries = federation.share(range(5))
    assert isinstance(deliveries, dict)
    federation.upload(deliveries, range(5))
    request = federation.confirm((0, 2, 3, 4))
    assert isinstance(request, RevealRequest)
    job = federation.reveal(request, (1, 2, 3, 4))
    assert not isinstance(job, Abort)
    steps: list[tuple[int, int]] = []
    result = federation.unmask(job, lambda done, total: steps.append((done, total)))
    assert result.sums[0].tolist() == federation.plain_sum(0, range(5))
    assert steps == [(i, 5) for i in range(1, 6)]
