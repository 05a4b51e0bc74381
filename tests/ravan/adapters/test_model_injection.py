"""Heads in whole models: the same battery over four families, rounds with partial heads, and refusals."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from adapter_plans import plan_for, random_state, settings_for
from numpy.typing import NDArray
from tiny_models import FAMILIES, build, run
from torch import Tensor, nn

from ravan.adapters.basis import Basis, draw_basis, drawn_bases
from ravan.adapters.layer import RavanLinear
from ravan.adapters.model import find_linears, inject, local_deltas, remove, trained_parameters
from ravan.adapters.state import FloatArray, ModelState, apply_mean, initial_state
from ravan.errors import ConfigError, ErrorReason, ModelError
from ravan.ids import BlockId, BlockKind
from ravan.manifest.plan import BasisKind, JobPlan, Matrix

HEADS, RANK = 2, 3
CLASSIFIER = [("classifier.weight", (3, 16)), ("classifier.bias", (3,))]


def bert_plan(kind: BasisKind = BasisKind.GRAM_SCHMIDT) -> JobPlan:
    return plan_for(find_linears(build("bert"), ["query", "value"]), settings_for(HEADS, RANK, kind), CLASSIFIER)


def update_by_hand(plan: JobPlan, matrix: Matrix, products: Mapping[int, NDArray[Any]]) -> NDArray[np.float64]:
    """sum_i B_i P_i A_i over the given heads, in float64."""
    basis = draw_basis(plan.adapter, matrix.ordinal, matrix.out_features, matrix.in_features)
    total = np.zeros((matrix.out_features, matrix.in_features))
    for head, product in products.items():
        total += basis.b[head].astype(np.float64) @ product.astype(np.float64) @ basis.a[head].astype(np.float64)
    return total


def cores_of(state: ModelState, matrix: Matrix) -> dict[int, FloatArray]:
    return {b.index: array for b, array in state.items() if b.kind is BlockKind.HEAD and b.matrix == matrix.ordinal}


def merged_by_hand(model: nn.Module, plan: JobPlan, state: ModelState) -> nn.Module:
    """A copy of a plain model with every head written into its weights."""
    merged = copy.deepcopy(model)
    for matrix in plan.matrices:
        weight = merged.get_submodule(matrix.name).weight
        assert isinstance(weight, Tensor)
        weight.data += torch.from_numpy(update_by_hand(plan, matrix, cores_of(state, matrix))).float()
    return merged


def whole_weight(model: nn.Module, matrix: Matrix) -> NDArray[np.float32]:
    """The layer's effective weight, measured from outside: its answers to unit vectors, less the bias."""
    layer = model.get_submodule(matrix.name)
    with torch.no_grad():
        answers = layer(torch.eye(matrix.in_features))
        answers = answers - layer(torch.zeros(matrix.in_features))
    transposed: NDArray[np.float32] = answers.T.numpy()
    return transposed


def some_heads(plan: JobPlan, seed: int) -> frozenset[BlockId]:
    generator = np.random.default_rng(seed)
    return frozenset(b for b in plan.head_ids() if generator.random() < 0.5) | frozenset(plan.dense_ids())


def train(model: nn.Module, plan: JobPlan, seed: int, steps: int = 3) -> None:
    torch.manual_seed(seed)
    parameters = trained_parameters(model, plan)
    optimiser = torch.optim.Adam([*parameters.heads, *parameters.dense], lr=0.05)
    for _ in range(steps):
        logits = run("bert", model, {"input_ids": torch.randint(1, 40, (4, 6))})
        loss = torch.nn.functional.cross_entropy(logits, torch.randint(0, 3, (4,)))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_linear_of_the_family_is_found_bottom_to_top(name: str) -> None:
    found = find_linears(build(name), FAMILIES[name].targets)
    assert len(found) == FAMILIES[name].linears
    blocks = [int(part) for line, *_ in found for part in re.findall(r"layers?\.(\d)\.", line)]
    assert blocks == sorted(blocks)
    assert set(blocks) == {0, 1}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("seed", [0, 1])
def test_injected_model_is_the_merged_model(name: str, seed: int) -> None:
    model, inputs = build(name), FAMILIES[name].inputs()
    plan = plan_for(find_linears(model, FAMILIES[name].targets), settings_for(HEADS, RANK))
    state = random_state(plan, seed)
    expected = run(name, merged_by_hand(model, plan, state), inputs)
    plain = run(name, model, inputs)
    for trained in (frozenset(), some_heads(plan, seed), frozenset(plan.head_ids())):
        inject(model, plan, state, trained)
        torch.testing.assert_close(run(name, model, inputs), expected, atol=2e-5, rtol=2e-4)
    assert not torch.allclose(plain, expected, atol=1e-3), "the heads change nothing, so the test shows nothing"


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_reach_exactly_the_trained_heads(name: str) -> None:
    model = build(name)
    plan = plan_for(find_linears(model, FAMILIES[name].targets), settings_for(HEADS, RANK))
    trained = some_heads(plan, 4)
    inject(model, plan, random_state(plan, 4), trained)
    run(name, model, FAMILIES[name].inputs()).square().sum().backward()  # type: ignore[no-untyped-call]
    with_gradient = {n for n, p in model.named_parameters() if p.grad is not None}
    layers = {m.ordinal: m.name for m in plan.matrices}
    expected = {f"{layers[b.matrix]}.{part}" for b in trained for part in ("cores", "scales")}
    assert with_gradient == expected


@pytest.mark.parametrize("name", FAMILIES)
def test_remove_restores_the_model_bit_for_bit(name: str) -> None:
    model, inputs = build(name), FAMILIES[name].inputs()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    output = run(name, model, inputs)
    plan = plan_for(find_linears(model, FAMILIES[name].targets), settings_for(HEADS, RANK))
    for seed in range(3):
        inject(model, plan, random_state(plan, seed), some_heads(plan, seed))
    assert sum(isinstance(m, RavanLinear) for m in model.modules()) == len(plan.matrices)
    remove(model)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert torch.equal(run(name, model, inputs), output)


def test_back_propagation_stops_below_the_lowest_trained_layer() -> None:
    model, plan = build("bert"), bert_plan()
    upper = frozenset(b for b in plan.head_ids() if b.matrix >= 2) | frozenset(plan.dense_ids())
    inject(model, plan, random_state(plan, 0), upper)
    seen: dict[str, bool] = {}

    def note(name: str) -> object:
        return model.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output: seen.update({name: output.requires_grad})
        )

    watched = ["bert.embeddings", "bert.encoder.layer.0.output", "bert.encoder.layer.1.output"]
    hooks = [note(name) for name in watched]
    train(model, plan, 0)
    assert len(hooks) == 3
    assert seen == dict(zip(watched, [False, False, True], strict=True))


def test_evaluation_form_has_nothing_to_train() -> None:
    model, plan = build("bert"), bert_plan()
    inject(model, plan, random_state(plan, 0), frozenset())
    assert not [name for name, p in model.named_parameters() if p.requires_grad]
    assert not run("bert", model, FAMILIES["bert"].inputs()).requires_grad


def test_scales_are_one_again_in_the_next_round_and_the_products_carry_on() -> None:
    model, plan = build("bert"), bert_plan()
    state, everything = random_state(plan, 0), frozenset(plan.head_ids() + plan.dense_ids())
    inject(model, plan, state, everything)
    train(model, plan, 1)
    scales = [m.scales.detach() for m in model.modules() if isinstance(m, RavanLinear) and m.scales is not None]
    assert len(scales) == 4
    assert all((s != 1).any() for s in scales), "training did not move the scales"
    trained = run("bert", model, FAMILIES["bert"].inputs()).detach()
    deltas = local_deltas(model, plan, state, everything)
    inject(model, plan, apply_mean(state, {b: d.astype(np.float64) for b, d in deltas.items()}), everything)
    again = [m for m in model.modules() if isinstance(m, RavanLinear)]
    assert all(layer.scales is not None and bool((layer.scales == 1).all()) for layer in again)
    torch.testing.assert_close(run("bert", model, FAMILIES["bert"].inputs()), trained, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", list(BasisKind))
def test_mean_of_products_is_the_mean_of_weight_updates(kind: BasisKind) -> None:
    """Everybody trains every head: the next global weight is the plain mean of the agents' own weights."""
    plan = bert_plan(kind)
    state, everything = random_state(plan, 0), frozenset(plan.head_ids() + plan.dense_ids())
    weights: dict[str, list[NDArray[np.float32]]] = {m.name: [] for m in plan.matrices}
    deltas = []
    for agent in range(3):
        model = build("bert")
        inject(model, plan, state, everything)
        train(model, plan, agent)
        deltas.append(local_deltas(model, plan, state, everything))
        for matrix in plan.matrices:
            weights[matrix.name].append(whole_weight(model, matrix))
    model = build("bert")
    inject(model, plan, apply_mean(state, mean_by_trainers(deltas)), frozenset())
    for matrix in plan.matrices:
        mean = np.mean(weights[matrix.name], axis=0, dtype=np.float64)
        np.testing.assert_allclose(whole_weight(model, matrix), mean, atol=2e-6)
        assert np.ptp(weights[matrix.name], axis=0).max() > 1e-3, "the agents trained the same, so it shows nothing"


def test_partial_heads_average_over_their_trainers_and_nobody_leaves_a_head_alone() -> None:
    """Agents train different heads; each head's part of the next weight is its trainers' mean weight update."""
    plan, state = bert_plan(), random_state(bert_plan(), 0)
    head = {b: b for b in plan.head_ids()}
    untouched = BlockId(BlockKind.HEAD, 0, 1, 1)
    choices = [some_heads(plan, seed) - {untouched} for seed in (10, 11, 12)]
    assert len({sum(b in c for c in choices) for b in head}) >= 3, "cohorts of different sizes are wanted"
    deltas: list[dict[BlockId, FloatArray]] = []
    parts: dict[BlockId, list[NDArray[np.float64]]] = {b: [] for b in head}
    for agent, mine in enumerate(choices):
        model = build("bert")
        inject(model, plan, state, mine)
        train(model, plan, agent)
        deltas.append(local_deltas(model, plan, state, mine))
        assert deltas[-1].keys() == mine
        for block in mine & head.keys():
            parts[block].append(trained_part(model, plan, block))
    model = build("bert")
    inject(model, plan, apply_mean(state, mean_by_trainers(deltas)), frozenset())
    for matrix in plan.matrices:
        expected = base_weight(build("bert"), matrix)
        for index, core in cores_of(state, matrix).items():
            mine_parts = parts[BlockId(BlockKind.HEAD, 0, matrix.ordinal, index)]
            expected += np.mean(mine_parts, axis=0) if mine_parts else update_by_hand(plan, matrix, {index: core})
        np.testing.assert_allclose(whole_weight(model, matrix), expected, atol=2e-6)


def mean_by_trainers(deltas: Iterable[dict[BlockId, FloatArray]]) -> dict[BlockId, NDArray[np.float64]]:
    gathered: dict[BlockId, list[FloatArray]] = {}
    for each in deltas:
        for block, delta in each.items():
            gathered.setdefault(block, []).append(delta)
    return {block: np.mean(arrays, axis=0, dtype=np.float64) for block, arrays in gathered.items()}


def trained_part(model: nn.Module, plan: JobPlan, block: BlockId) -> NDArray[np.float64]:
    """B_i (s_i H_i) A_i of one agent, from its raw parameters."""
    matrix = plan.matrices[block.matrix]
    layer = model.get_submodule(matrix.name)
    assert isinstance(layer, RavanLinear)
    assert layer.cores is not None
    assert layer.scales is not None
    position = layer.trained.index(block.index)
    product = layer.scales[position].item() * layer.cores[position].detach().numpy()
    return update_by_hand(plan, matrix, {block.index: product})


def base_weight(model: nn.Module, matrix: Matrix) -> NDArray[np.float64]:
    weight = model.get_submodule(matrix.name).weight
    assert isinstance(weight, Tensor)
    double: NDArray[np.float64] = weight.detach().double().numpy().copy()
    return double


def test_dense_blocks_start_from_the_state_and_report_new_minus_old() -> None:
    model, plan = build("bert"), bert_plan()
    state = random_state(plan, 0)
    weight_id, bias_id = plan.dense_ids()
    inject(model, plan, state, frozenset({weight_id}))
    assert torch.equal(model.get_parameter("classifier.weight"), torch.from_numpy(state[weight_id]))
    assert not model.get_parameter("classifier.bias").requires_grad
    model.get_parameter("classifier.weight").data += 0.5
    deltas = local_deltas(model, plan, state, frozenset({weight_id}))
    np.testing.assert_allclose(deltas[weight_id], np.full((3, 16), 0.5), atol=1e-6)
    assert state[bias_id].shape == (3,)


def test_training_without_heads_trains_the_dense_blocks_alone() -> None:
    model = build("bert")
    plan = plan_for([], settings_for(0, 1), CLASSIFIER)
    state = initial_state(plan)
    inject(model, plan, state, frozenset(plan.dense_ids()))
    train(model, plan, 0)
    deltas = local_deltas(model, plan, state, frozenset(plan.dense_ids()))
    assert all(np.abs(delta).max() > 0 for delta in deltas.values())
    assert not [m for m in model.modules() if isinstance(m, RavanLinear)]


def test_bases_are_asked_for_only_where_needed_and_may_come_from_elsewhere() -> None:
    model, plan = build("bert"), bert_plan()
    asked: list[int] = []

    def source(matrix: Matrix) -> Basis:
        asked.append(matrix.ordinal)
        return drawn_bases(plan.adapter)(matrix)

    inject(model, plan, initial_state(plan), frozenset({BlockId(BlockKind.HEAD, 0, 3, 0)}), source)
    assert asked == [3]


class _Odd(nn.Module):
    """Names that end alike."""

    def __init__(self) -> None:
        super().__init__()
        self.xvalue = nn.Linear(2, 3)
        self.value = nn.Linear(2, 4)
        self.ff = nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2))
        self.classifier = nn.Sequential(nn.Linear(2, 2))


def test_whole_components_match() -> None:
    model = _Odd()
    assert find_linears(model, ["value"]) == [("value", 4, 2)]
    assert find_linears(model, ["ff.2", "value"]) == [("value", 4, 2), ("ff.2", 2, 2)]
    assert find_linears(model, ["0"], exclude=["classifier.0"]) == [("ff.0", 2, 4)]


@pytest.mark.parametrize("targets", [["quary"], ["value", "quary"], []])
def test_unknown_target_is_refused_with_the_names_that_exist(targets: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"classifier\.0, ff\.0, ff\.2, value, xvalue") as refused:
        find_linears(_Odd(), targets)
    assert refused.value.reason is ErrorReason.CONFIG_INVALID
    assert ("quary" in str(refused.value)) == ("quary" in targets)


@pytest.mark.parametrize(
    "linear",
    [("bert.encoder.layer.9.attention.self.query", 16, 16), ("bert.pooler", 16, 16), ("bert.pooler.dense", 16, 8)],
)
def test_plan_of_another_model_is_refused(linear: tuple[str, int, int]) -> None:
    plan = plan_for([linear], settings_for(HEADS, RANK))
    with pytest.raises(ModelError, match=linear[0]) as refused:
        inject(build("bert"), plan, initial_state(plan), frozenset())
    assert refused.value.reason is ErrorReason.MODEL_INVALID


@pytest.mark.parametrize("dense", [("classifier.gain", (3,)), ("nowhere.weight", (3,)), ("classifier.bias", (4,))])
def test_dense_block_of_another_model_is_refused(dense: tuple[str, tuple[int, ...]]) -> None:
    plan = plan_for([], settings_for(0, 1), [dense])
    with pytest.raises(ModelError, match=dense[0]):
        inject(build("bert"), plan, initial_state(plan), frozenset())
