"""Who gets which examples and how much each client can do."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_lab import bench_of, tiny_task

from lab.federation.capacity import SHARES, Capacities, deal_capacities
from lab.federation.partition import LEAST_EXAMPLES, Split, deal_by_dirichlet, deal_evenly, deal_natural
from lab.federation.shard import Rows, Shard
from ravan.errors import ConfigError

SEEDS = st.integers(0, 1 << 40)


def generator(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def assert_dealt_once(parts: list[Rows], count: int) -> None:
    assert np.sort(np.concatenate(parts)).tolist() == list(range(count))


@settings(deadline=None)
@given(count=st.integers(1, 200), clients=st.integers(1, 20), seed=SEEDS)
def test_equal_parts_hold_every_example_once_and_differ_by_one_at_most(count: int, clients: int, seed: int) -> None:
    parts = deal_evenly(count, clients, generator(seed))
    assert len(parts) == clients
    assert_dealt_once(parts, count)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_equal_parts_are_random() -> None:
    parts = deal_evenly(100, 2, generator())
    assert parts[0].tolist() != list(range(50))
    assert parts[0].tolist() != deal_evenly(100, 2, generator(2))[0].tolist()


@settings(deadline=None)
@given(owners=st.lists(st.integers(0, 9), min_size=1, max_size=80))
def test_the_natural_split_gives_everybody_its_own(owners: list[int]) -> None:
    parts = deal_natural(np.asarray(owners, np.int64))
    assert_dealt_once(parts, len(owners))
    assert [{owners[row] for row in part} for part in parts] == [{owner} for owner in sorted(set(owners))]


@settings(deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=120, max_size=240),
    clients=st.integers(1, 6),
    alpha=st.sampled_from([0.5, 1.0, 10.0]),
    seed=SEEDS,
)
def test_a_dirichlet_split_deals_every_example_once_and_nobody_too_few(
    labels: list[int], clients: int, alpha: float, seed: int
) -> None:
    parts = deal_by_dirichlet(np.asarray(labels, np.int64), clients, alpha, generator(seed))
    assert len(parts) == clients
    assert_dealt_once(parts, len(labels))
    assert min(len(part) for part in parts) >= LEAST_EXAMPLES


def largest_share(parts: list[Rows], labels: NDArray[np.int64]) -> float:
    """Return how much of a client's examples its commonest class is, mean over clients."""
    return float(np.mean([np.bincount(labels[part]).max() / len(part) for part in parts]))


def test_a_smaller_alpha_is_more_skewed_and_a_large_one_is_even() -> None:
    labels = np.arange(2000) % 10
    share = {
        alpha: np.mean(
            [largest_share(deal_by_dirichlet(labels, 5, alpha, generator(seed)), labels) for seed in range(5)]
        )
        for alpha in (0.1, 0.3, 1.0, 1000.0)
    }
    assert share[0.1] > share[0.3] + 0.05 > share[1.0] + 0.1
    assert share[1000.0] == pytest.approx(0.1, abs=0.01)


def test_each_class_is_divided_in_dirichlet_proportions() -> None:
    """Of Dir(alpha) over n clients, a share has mean 1 / n and variance (1 / n)(1 - 1 / n) / (n alpha + 1)."""
    labels, alpha, clients = np.repeat(np.arange(400), 50), 0.5, 4
    parts = deal_by_dirichlet(labels, clients, alpha, generator())
    shares = np.stack([np.bincount(labels[part], minlength=400) / 50 for part in parts])
    # With 400 draws the mean is known to 0.013 and the variance to about 0.004.
    assert shares.mean(1) == pytest.approx(np.full(clients, 0.25), abs=0.05)
    assert shares.var(1) == pytest.approx(np.full(clients, 0.25 * 0.75 / (clients * alpha + 1)), abs=0.015)


def test_what_cannot_be_dealt_is_refused_with_what_to_change() -> None:
    labels = np.zeros(40, np.int64)
    with pytest.raises(ConfigError, match="40 examples cannot be dealt to 6 clients with alpha") as refused:
        deal_by_dirichlet(labels, 6, 0.3, generator())
    assert refused.value.next_step == "Take fewer clients or a larger alpha."


def test_a_natural_split_of_another_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="The natural split of tiny has 4 clients, not 5") as refused:
        bench_of(federation={"split": Split.NATURAL, "clients": 5, "per_round": 2})
    assert refused.value.next_step == "Set clients = 4 there."


def test_clients_without_enough_examples_are_refused_rather_than_waited_for() -> None:
    with pytest.raises(ConfigError, match="fewer than 8 examples") as refused:
        bench_of(federation={"split": Split.IID, "clients": 73, "per_round": 2})
    assert refused.value.next_step == "Take fewer clients."


@pytest.mark.parametrize(
    ("split", "clients", "sizes"),
    [(Split.NATURAL, 4, [18] * 4), (Split.IID, 5, [15, 15, 14, 14, 14]), (Split.POOLED, 1, [72])],
)
def test_a_bench_deals_the_split_that_the_cell_names(split: Split, clients: int, sizes: list[int]) -> None:
    bench = bench_of(federation={"split": split, "clients": clients, "per_round": 1})
    assert [len(shard) for shard in bench.shards] == sizes
    assert_dealt_once([shard.rows for shard in bench.shards], 72)
    if split is Split.NATURAL:
        owners = tiny_task().owners
        assert [set(owners[shard.rows]) for shard in bench.shards] == [{0}, {1}, {2}, {3}]


def test_a_shard_gathers_the_rows_of_the_whole() -> None:
    pool = tiny_task().pool
    shard = Shard(whole=pool, rows=np.asarray([5, 9, 30]))
    assert len(shard) == 3
    assert shard.lengths.tolist() == [pool.lengths[row] for row in (5, 9, 30)]
    mine, whole = shard.gather([2, 0, 2], length=7), pool.gather([30, 5, 30], length=7)
    assert mine.labels.tolist() == whole.labels.tolist()
    assert mine.inputs["input_ids"].tolist() == whole.inputs["input_ids"].tolist()


MIXES = {
    Capacities.EQUAL: (0, 0, 0, 20),
    Capacities.UNIFORM: (5, 5, 5, 5),
    Capacities.BELL: (3, 7, 7, 3),
    Capacities.SKEWED: (10, 5, 3, 2),
}
"""Of twenty clients."""


@settings(deadline=None)
@given(kind=st.sampled_from(Capacities), clients=st.integers(1, 60), seed=SEEDS)
def test_capacities_are_the_mix_by_largest_remainder(kind: Capacities, clients: int, seed: int) -> None:
    exact = [Fraction(part, 20) * clients for part in MIXES[kind]]
    counts = [part.numerator // part.denominator for part in exact]
    # Ascending shares, so that of equal remainders the smaller share comes first.
    remainders = sorted(range(4), key=lambda i: counts[i] - exact[i])
    for i in remainders[: clients - sum(counts)]:
        counts[i] += 1
    dealt = deal_capacities(kind, clients, generator(seed))
    assert [dealt.count(share) for share in SHARES] == counts
    assert len(dealt) == clients


def test_who_is_weak_is_drawn() -> None:
    drawn = {deal_capacities(Capacities.UNIFORM, 8, generator(seed)) for seed in range(5)}
    assert len(drawn) == 5
    assert {tuple(sorted(each)) for each in drawn} == {(0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1.0, 1.0)}
