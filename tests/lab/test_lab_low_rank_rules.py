"""Every low-rank rival's server against its defining equations, on factors that nobody trained."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_lab import HIDDEN, MATRICES, method_of, tiny_task

from lab.federation.capacity import Capacities
from lab.methods.low_rank.factors import SCALE, Factors
from lab.methods.low_rank.method import LowRankMethod, LowRankUpdate
from lab.methods.ravan.method import Ravan

Array = NDArray[np.float64]
NAMES = ("fedit", "ffa_lora", "fedex_lora", "flora", "het_lora", "flex_lora", "fed_svd")
RANKS = {"ffa_lora": 4, "fed_svd": 4}
"""Of the tiny cell's budget of LoRA rank 2: methods that send B alone have twice the rank."""


def low_rank(name: str, **changes: Any) -> LowRankMethod:
    return cast(LowRankMethod, method_of(name, **changes))


def updates_of(method: LowRankMethod, ranks: list[int], seed: int = 0, *, same_a: bool = False) -> list[LowRankUpdate]:
    """Return made-up factors of one client after the other."""
    generator = np.random.default_rng(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.from_numpy(generator.standard_normal(shape).astype(np.float32))

    def factors(name: str, rank: int) -> Factors:
        a = method.adapter[name].a if same_a else draw(rank, HIDDEN)
        return Factors(b=draw(HIDDEN, rank), a=a.clone())

    return [LowRankUpdate(adapter={n: factors(n, rank) for n in MATRICES}, dense=method.dense) for rank in ranks]


def array(tensor: torch.Tensor) -> Array:
    return tensor.double().numpy()


def exact_mean(updates: list[LowRankUpdate], name: str) -> Array:
    """Return the mean of the products B A, entry by entry."""
    total = np.zeros((HIDDEN, HIDDEN))
    for update in updates:
        b, a = array(update.adapter[name].b), array(update.adapter[name].a)
        for k in range(b.shape[1]):
            total += np.outer(b[:, k], a[k])
    return total / len(updates)


def change_of(method: LowRankMethod, name: str) -> Array:
    """Return what the method has made of a weight so far: (weight x - W x) for every unit vector x."""
    base = tiny_task().task.model.get_submodule(name)
    rows = torch.eye(HIDDEN)
    with torch.inference_mode(), method.installed():
        changed = tiny_task().task.model.get_submodule(name)(rows)
    with torch.inference_mode():
        return array((changed - base(rows)).T)


def close(expected: Array) -> Any:
    return pytest.approx(expected, abs=3e-6 * max(1.0, float(np.abs(expected).max())))


@pytest.mark.parametrize("name", NAMES)
def test_a_fresh_adapter_changes_nothing_and_has_the_rank_of_the_budget(name: str) -> None:
    method = low_rank(name)
    assert set(method.adapter) == set(MATRICES)
    for factors in method.adapter.values():
        rank = RANKS.get(name, 2)
        assert (tuple(factors.b.shape), tuple(factors.a.shape)) == ((HIDDEN, rank), (rank, HIDDEN))
        assert not factors.b.any()
        assert factors.a.all()
    assert change_of(method, MATRICES[0]) == close(np.zeros((HIDDEN, HIDDEN)))


def test_a_is_drawn_uniform_within_one_over_the_root_of_the_inputs() -> None:
    drawn = np.concatenate([array(f.a).ravel() for s in range(8) for f in low_rank("fedit", seed=s).adapter.values()])
    bound = HIDDEN**-0.5
    assert np.abs(drawn).max() <= bound
    assert np.abs(drawn).max() > 0.99 * bound
    assert drawn.var() == pytest.approx(1 / (3 * HIDDEN), rel=0.1)


@pytest.mark.parametrize("name", ["fedit", "ffa_lora"])
def test_a_led_a_has_the_first_rows_of_ravans_aligned_bases_and_the_length_of_drawn_ones(name: str) -> None:
    led, drawn = (cast(LowRankMethod, method_of(name, led=kind)) for kind in (True, False))
    ravan = cast(Ravan, method_of("ravan", basis="aligned"))
    lengths = []
    for matrix in ravan.plan.matrices:
        rows = torch.from_numpy(np.concatenate(list(ravan.bases(matrix).a)))
        a = led.adapter[matrix.name].a
        assert a.shape == drawn.adapter[matrix.name].a.shape
        assert torch.allclose(a / a.norm(dim=1, keepdim=True), rows[: len(a)], atol=1e-5)
        assert torch.equal(led.adapter[matrix.name].b, torch.zeros_like(drawn.adapter[matrix.name].b))
        assert torch.allclose(a.norm(dim=1), torch.full((len(a),), 3**-0.5), atol=1e-5)
        lengths += drawn.adapter[matrix.name].a.norm(dim=1).tolist()
    assert np.sqrt(np.mean(np.square(lengths))) == pytest.approx(3**-0.5, rel=0.15)


def test_fedit_takes_the_means_of_b_and_of_a_apart() -> None:
    method = low_rank("fedit")
    updates = updates_of(method, [2, 2, 2])
    method.combine(updates, 1)
    for name in MATRICES:
        b = np.mean([array(update.adapter[name].b) for update in updates], axis=0)
        a = np.mean([array(update.adapter[name].a) for update in updates], axis=0)
        assert array(method.adapter[name].b) == pytest.approx(b, abs=1e-6)
        assert array(method.adapter[name].a) == pytest.approx(a, abs=1e-6)
        assert change_of(method, name) == close(SCALE * b @ a)
        # Which is its known flaw.
        assert np.abs(b @ a - exact_mean(updates, name)).max() > 0.1


def test_ffa_lora_never_changes_a_and_its_mean_is_that_of_the_products() -> None:
    method = low_rank("ffa_lora")
    first = {name: factors.a.clone() for name, factors in method.adapter.items()}
    for number in (1, 2, 3):
        updates = updates_of(method, [4, 4, 4, 4, 4, 4, 4], seed=number, same_a=True)
        method.combine(updates, number)
        for name in MATRICES:
            assert torch.equal(method.adapter[name].a, first[name])
            assert change_of(method, name) == close(SCALE * exact_mean(updates, name))


def test_fedex_lora_puts_the_residual_into_the_weights_so_that_the_sum_is_exact() -> None:
    method, merged = low_rank("fedex_lora"), {name: np.zeros((HIDDEN, HIDDEN)) for name in MATRICES}
    for number in (1, 2):
        updates = updates_of(method, [2, 2, 2], seed=number)
        method.combine(updates, number)
        for name in MATRICES:
            b = np.mean([array(update.adapter[name].b) for update in updates], axis=0)
            a = np.mean([array(update.adapter[name].a) for update in updates], axis=0)
            assert array(method.adapter[name].b) == pytest.approx(b, abs=1e-6)
            assert array(method.adapter[name].a) == pytest.approx(a, abs=1e-6)
            # Clients start from the weights with the residuals of all rounds before: what they reach is exact on top.
            assert change_of(method, name) == close(merged[name] + SCALE * exact_mean(updates, name))
            merged[name] += SCALE * (exact_mean(updates, name) - b @ a)
            singular = np.linalg.svd(exact_mean(updates, name) - b @ a, compute_uv=False)
            assert singular[(3 - 1) * 2 :].max() < 1e-6 < singular[(3 - 1) * 2 - 1]


def test_flora_merges_the_stacked_factors_and_draws_new_ones() -> None:
    method = low_rank("flora", federation={"capacities": Capacities.UNIFORM, "clients": 4, "per_round": 4})
    first = {name: factors.a.clone() for name, factors in method.adapter.items()}
    merged = {name: np.zeros((HIDDEN, HIDDEN)) for name in MATRICES}
    for number in (1, 2):
        updates = updates_of(method, [1, 1, 2, 2], seed=number)
        method.combine(updates, number)
        for name in MATRICES:
            stack_b = np.concatenate([array(update.adapter[name].b) / len(updates) for update in updates], axis=1)
            stack_a = np.concatenate([array(update.adapter[name].a) for update in updates])
            assert stack_b.shape[1] == 6
            merged[name] += SCALE * stack_b @ stack_a
            assert change_of(method, name) == close(merged[name])
            fresh = method.adapter[name]
            assert not fresh.b.any()
            assert not torch.equal(fresh.a, first[name])
            first[name] = fresh.a.clone()


def test_het_lora_pads_with_zeros_weighs_by_the_norm_and_truncates() -> None:
    method = low_rank("het_lora", federation={"capacities": Capacities.UNIFORM, "clients": 4, "per_round": 4})
    updates = updates_of(method, [1, 2, 1, 2])
    method.combine(updates, 1)
    norms = []
    for update in updates:
        squares = 0.0
        for factors in update.adapter.values():
            squares += float(((array(factors.b) @ array(factors.a)) ** 2).sum())
        norms.append(squares**0.5)
    for name in MATRICES:
        b, a = np.zeros((HIDDEN, 2)), np.zeros((2, HIDDEN))
        for norm, update in zip(norms, updates, strict=True):
            mine = update.adapter[name]
            b[:, : mine.rank] += norm / sum(norms) * array(mine.b)
            a[: mine.rank] += norm / sum(norms) * array(mine.a)
        assert array(method.adapter[name].b) == pytest.approx(b, abs=1e-6)
        assert array(method.adapter[name].a) == pytest.approx(a, abs=1e-6)
    weak, strong = (method.bench.capacities.index(share) for share in (0.25, 1.0))
    cut = method.adapter_for(method.bench.client(weak, 2))[MATRICES[0]]
    assert torch.equal(cut.b, method.adapter[MATRICES[0]].b[:, :1])
    assert torch.equal(cut.a, method.adapter[MATRICES[0]].a[:1])
    assert method.adapter_for(method.bench.client(strong, 2))[MATRICES[0]].rank == 2


def test_het_lora_counts_clients_the_same_where_nobody_has_moved() -> None:
    method = low_rank("het_lora")
    updates = updates_of(method, [2, 2, 2])
    for update in updates:
        for factors in update.adapter.values():
            factors.b.zero_()
    method.combine(updates, 1)
    for name in MATRICES:
        a = np.mean([array(update.adapter[name].a) for update in updates], axis=0)
        assert array(method.adapter[name].a) == pytest.approx(a, abs=1e-6)


def test_flex_lora_hands_out_the_best_approximation_of_the_mean_product() -> None:
    method = low_rank("flex_lora", federation={"capacities": Capacities.UNIFORM, "clients": 4, "per_round": 4})
    updates = updates_of(method, [1, 2, 1, 2])
    method.combine(updates, 1)
    weak = method.adapter_for(method.bench.client(method.bench.capacities.index(0.25), 2))
    for name in MATRICES:
        mean = exact_mean(updates, name)
        singular = np.linalg.svd(mean, compute_uv=False)
        for factors, rank in ((method.adapter[name], 2), (weak[name], 1)):
            assert factors.rank == rank
            # Eckart and Young: no matrix of this rank is nearer, and this one is as near as can be.
            error = np.linalg.norm(mean - array(factors.b) @ array(factors.a))
            assert error == pytest.approx(float(np.sqrt((singular[rank:] ** 2).sum())), rel=1e-5)
        assert change_of(method, name) == close(SCALE * array(method.adapter[name].product()))


def test_fed_svd_keeps_the_product_and_makes_a_orthonormal() -> None:
    method = low_rank("fed_svd")
    for factors in method.adapter.values():
        assert array(factors.a) @ array(factors.a).T == pytest.approx(np.eye(4), abs=1e-6)
    for number in (1, 2):
        before = {name: factors.a.clone() for name, factors in method.adapter.items()}
        updates = updates_of(method, [4, 4, 4], seed=number, same_a=True)
        method.combine(updates, number)
        for name in MATRICES:
            after = method.adapter[name]
            assert array(after.b) @ array(after.a) == pytest.approx(exact_mean(updates, name), abs=1e-5)
            assert array(after.a) @ array(after.a).T == pytest.approx(np.eye(4), abs=1e-6)
            assert not torch.allclose(after.a, before[name])
            lengths = np.linalg.norm(array(after.b), axis=0)
            assert array(after.b).T @ array(after.b) == pytest.approx(np.diag(lengths**2), abs=1e-4)


@pytest.mark.parametrize("name", ["ffa_lora", "fed_svd", "fedit", "flex_lora"])
def test_no_rank_is_larger_than_a_matrix_can_have(name: str) -> None:
    method = low_rank(name, lora_rank=40)
    method.play(1, [method.bench.client(0, 1)])
    assert {factors.rank for factors in method.adapter.values()} == {HIDDEN}


@pytest.mark.parametrize(
    ("name", "changes", "rank"),
    [
        ("fedit", {}, 2),
        ("ffa_lora", {}, 4),
        ("fedit", {"rank_share": 1.0}, 8),
        ("fedit", {"rank_share": 0.5}, 4),
        ("het_lora", {}, 8),
        ("het_lora", {"rank_share": 0.5}, 4),
    ],
)
def test_a_method_of_one_rank_has_that_of_the_weakest_unless_told_otherwise(
    name: str, changes: dict[str, float], rank: int
) -> None:
    federation = {"capacities": Capacities.UNIFORM, "clients": 4, "per_round": 4}
    method = low_rank(name, lora_rank=8, federation=federation, **changes)
    assert {factors.rank for factors in method.adapter.values()} == {rank}
    ranks = {c: method.adapter_for(method.bench.client(c, 1))[MATRICES[0]].rank for c in range(4)}
    by_capacity = {0.25: 2, 0.5: 4, 0.75: 6, 1.0: 8}
    capacities = method.bench.capacities
    assert ranks == {c: min(rank, by_capacity[capacities[c]]) if name == "het_lora" else rank for c in range(4)}


def test_padding_and_cutting_keep_the_product_of_what_is_left() -> None:
    generator = torch.Generator().manual_seed(1)
    factors = Factors(b=torch.randn(5, 3, generator=generator), a=torch.randn(3, 4, generator=generator))
    padded = factors.padded(7)
    assert (tuple(padded.b.shape), tuple(padded.a.shape)) == ((5, 7), (7, 4))
    assert torch.equal(padded.product(), factors.product())
    assert torch.equal(padded.cut(3).product(), factors.product())
