"""Factors that take turns: exact means of columns, sides that rest orthonormal, and clients with fewer columns."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_lab import HIDDEN, MATRICES, cohort_of, method_of, tiny_task

from lab.federation.capacity import Capacities
from lab.methods.alternating.method import Alternating, mean_columns, rest_one_side
from lab.methods.low_rank.factors import Factors
from lab.methods.low_rank.layer import attached
from lab.methods.low_rank.method import LowRankUpdate, Sides

UNEQUAL: dict[str, Any] = {"clients": 4, "per_round": 4, "capacities": Capacities.UNIFORM}


def alternating(**changes: Any) -> Alternating:
    return cast(Alternating, method_of("alternating", **changes))


def draw(generator: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(generator.standard_normal(shape).astype(np.float32))


@settings(deadline=None)
@given(
    ranks=st.lists(st.integers(1, 5), min_size=1, max_size=6), threshold=st.integers(1, 4), seed=st.integers(0, 1 << 20)
)
def test_a_column_is_the_mean_over_its_trainers_or_stays(ranks: list[int], threshold: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    before, after = draw(generator, 7, 5), [draw(generator, 7, rank) for rank in ranks]
    found = mean_columns(before, after, threshold).double().numpy()
    for column in range(5):
        holders = [each for each, rank in zip(after, ranks, strict=True) if rank > column]
        for row in range(7):
            expected = float(before[row, column])
            if len(holders) >= threshold:
                expected = sum(float(each[row, column]) for each in holders) / len(holders)
            assert found[row, column] == pytest.approx(expected, abs=1e-6)


@settings(deadline=None)
@given(out=st.integers(4, 9), inputs=st.integers(4, 9), rank=st.integers(1, 4), seed=st.integers(0, 1 << 20))
@pytest.mark.parametrize("b_rests", [True, False])
def test_resting_keeps_the_product_and_puts_the_leading_directions_first(
    b_rests: bool, out: int, inputs: int, rank: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    factors = Factors(b=draw(generator, out, rank), a=draw(generator, rank, inputs))
    rested = rest_one_side(factors, b_rests=b_rests)
    product = factors.product().numpy()
    assert np.allclose(rested.product().numpy(), product, atol=1e-4 * max(1.0, float(np.abs(product).max())))
    b, a = rested.b.double().numpy(), rested.a.double().numpy()
    resting, trained = (b, a.T) if b_rests else (a.T, b)
    assert np.allclose(resting.T @ resting, np.eye(rank), atol=1e-5)
    values = np.linalg.svd(product, compute_uv=False)[:rank]
    assert np.allclose(np.linalg.norm(trained, axis=0), values, atol=1e-4 * max(1.0, values[0]))


@pytest.mark.parametrize("round_number", [1, 2])
def test_the_mean_of_a_round_is_that_of_its_products(round_number: int) -> None:
    """What FedIT cannot have: nothing is lost between the mean of the factors and the mean of the products."""
    method = alternating()
    generator = np.random.default_rng(round_number)
    rank = method.adapter[MATRICES[0]].rank
    shared = {name: Factors(b=draw(generator, HIDDEN, rank), a=draw(generator, rank, HIDDEN)) for name in MATRICES}
    method.adapter = dict(shared)
    updates = []
    for _ in range(3):
        adapter = {
            name: Factors(b=draw(generator, HIDDEN, rank), a=own.a)
            if round_number == 1
            else Factors(b=own.b, a=draw(generator, rank, HIDDEN))
            for name, own in shared.items()
        }
        updates.append(LowRankUpdate(adapter=adapter, dense=method.dense))
    method.combine(updates, round_number)
    for name in MATRICES:
        expected = np.mean([update.adapter[name].product().numpy() for update in updates], axis=0)
        assert np.allclose(method.adapter[name].product().numpy(), expected, atol=2e-5 * np.abs(expected).max())
        resting = method.adapter[name].b if round_number == 1 else method.adapter[name].a.T
        assert np.allclose((resting.T @ resting).numpy(), np.eye(rank), atol=1e-5)


def test_sides_take_turns_and_the_resting_one_is_not_touched() -> None:
    method = alternating(steps=1)
    assert [method.sides_of(number) for number in (1, 2, 3)] == [
        Sides(True, False),
        Sides(False, True),
        Sides(True, False),
    ]
    for number in (1, 2, 3):
        before = {name: (factors.b.clone(), factors.a.clone()) for name, factors in method.adapter.items()}
        [client, *_] = cohort_of(method.bench, number)
        update = method._train_one(client, number)
        for name in MATRICES:
            kept = [
                torch.equal(x, y)
                for x, y in zip(before[name], (update.adapter[name].b, update.adapter[name].a), strict=True)
            ]
            assert kept == [not method.sides_of(number).b, not method.sides_of(number).a]
        method.combine([update], number)


def test_a_client_with_fewer_columns_begins_with_the_whole_model() -> None:
    method = alternating(lora_rank=4, federation=UNEQUAL)
    for number in (1, 2):
        method.play(number, cohort_of(method.bench, number))
    lab = tiny_task()
    batch = lab.test.gather(range(4))
    with method.installed(), torch.inference_mode():
        whole = lab.task.logits(batch).clone()
    ranks = set()
    for client in cohort_of(method.bench, 3):
        adapter = method.adapter_for(client)
        ranks.add(adapter[MATRICES[0]].rank)
        with attached(lab.task.model, adapter, method.offsets_for(adapter)), torch.inference_mode():
            assert torch.allclose(lab.task.logits(batch), whole, atol=1e-5)
    assert ranks == {2, 4, 6, 8}


def test_clients_send_one_factor_of_their_own_columns_and_fetch_both_whole() -> None:
    method = alternating(lora_rank=4, federation=UNEQUAL)
    dense = sum(value.numel() for value in method.dense.values())
    method.play(1, cohort_of(method.bench))
    assert method.ledger.uploaded == 3 * ((2 + 4 + 6 + 8) * 4 * HIDDEN + 4 * dense)
    assert method.ledger.downloaded == 4 * 4 * (4 * 2 * 8 * HIDDEN + dense)
