"""Heads in one whole model: rounds with partial heads, dense blocks, and refusals."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from adapter_plans import DRAWN_KINDS, plan_for, random_state, settings_for
from heads_by_hand import cores_of, some_heads, update_by_hand
from numpy.typing import NDArray
from tiny_models import FAMILIES, build, run
from torch import Tensor, nn

from ravan.adapters.basis import Basis, drawn_bases
from ravan.adapters.layer import RavanLinear
from ravan.adapters.model import find_linears, inject, local_deltas, trained_parameters
from ravan.adapters.state import FloatArray, apply_mean, initial_state
from ravan.errors import ConfigError, ErrorReason, ModelError
from ravan.ids import BlockId, BlockKind
from ravan.manifest.plan import BasisKind, JobPlan, Matrix

HEADS, RANK = 2, 3
CLASSIFIER = [("classifier.weight", (3, 16)), ("classifier.bias", (3,))]


def bert_plan(kind: BasisKind = BasisKind.GRAM_SCHMIDT) -> JobPlan:
    return plan_for(find_linears(build("bert"), ["query", "value"]), settings_for(HEADS, RANK, kind), CLASSIFIER)


def whole_weight(model: nn.Module, matrix: Matrix) -> NDArray[np.float32]:
    """The layer's effective weight, measured from outside: its answers to unit vectors, less the bias."""
    layer = model.get_submodule(matrix.name)
    with torch.no_grad():
        answers = layer(torch.eye(matrix.in_features))
        answers = answers - layer(torch.zeros(matrix.in_features))
    transposed: NDArray[np.float32] = answers.T.numpy()
    return transposed


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


@pytest.mark.parametrize("kind", DRAWN_KINDS)
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
