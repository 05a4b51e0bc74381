"""One battery over tiny models of all families: text, images, sensor windows, grouped queries, a causal language model.

Ranks differ from matrix to matrix. Heads run on either path; what they compute and what they learn is held against
slow heads in float64.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from adapter_plans import plan_for, random_state, settings_for
from heads_by_hand import SlowHeads, cores_of, slow_model, some_heads, update_by_hand
from peft import PeftModel
from tiny_models import FAMILIES, build, run
from torch import Tensor, nn

from ravan.adapters import arithmetic
from ravan.adapters.export import export_peft
from ravan.adapters.layer import RavanLinear
from ravan.adapters.model import find_linears, inject, local_deltas, merge_heads, remove, trained_parameters
from ravan.adapters.precision import apply_precision
from ravan.adapters.state import FloatArray, ModelState
from ravan.ids import BlockId, BlockKind
from ravan.manifest.plan import JobPlan, Precision

HEADS, RANKS = 2, (0, 2, 4)

pytestmark = [
    pytest.mark.parametrize("name", FAMILIES),
    # PEFT 0.21 still reads a name that transformers 5 is retiring.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


def family_plan(name: str) -> JobPlan:
    model, family = build(name), FAMILIES[name]
    dense = [(n, tuple(p.shape)) for n, p in model.named_parameters() if n.partition(".")[0] == family.dense]
    return plan_for(find_linears(model, family.targets), settings_for(HEADS, 3), dense, ranks=RANKS)


def strong_state(plan: JobPlan, seed: int) -> dict[BlockId, FloatArray]:
    """Heads large enough to show in a tiny model's outputs."""
    return {b: a * (10 if b.kind is BlockKind.HEAD else 1) for b, a in random_state(plan, seed).items()}


def slow_run(name: str, plan: JobPlan, state: ModelState, inputs: dict[str, Tensor]) -> tuple[nn.Module, Tensor]:
    slow = slow_model(build(name), plan, state)
    return slow, run(name, slow, {key: x.double() if x.is_floating_point() else x for key, x in inputs.items()})


def assert_near(actual: Tensor, expected: Tensor) -> None:
    """float32 against float64: a few roundings of the largest number."""
    largest = float(expected.detach().abs().max())
    assert largest > 1e-3, "nothing is compared with nothing"
    torch.testing.assert_close(actual.detach().double(), expected.detach(), atol=2e-5 * largest, rtol=0)


def gradient(parameter: Tensor | None) -> Tensor:
    assert parameter is not None
    assert parameter.grad is not None
    return parameter.grad.flatten()


def layers_of(model: nn.Module, plan: JobPlan) -> list[RavanLinear]:
    layers = [model.get_submodule(matrix.name) for matrix in plan.matrices]
    wrapped = [layer for layer in layers if isinstance(layer, RavanLinear)]
    assert len(wrapped) == len(layers)
    return wrapped


def test_every_linear_of_the_family_is_found_bottom_to_top(name: str) -> None:
    found = find_linears(build(name), FAMILIES[name].targets)
    assert len(found) == FAMILIES[name].linears
    blocks = [int(part) for line, *_ in found for part in re.findall(r"layers?\.(\d)\.", line)]
    assert blocks == sorted(blocks)
    assert set(blocks) == {0, 1}


@pytest.mark.parametrize("path", [None, *arithmetic.Path])
@pytest.mark.parametrize("seed", [0, 1])
def test_outputs_are_those_of_slow_heads_whichever_train(name: str, path: arithmetic.Path | None, seed: int) -> None:
    model, plan, inputs = build(name), family_plan(name), FAMILIES[name].inputs()
    state = strong_state(plan, seed)
    plain = run(name, model, inputs)
    _, expected = slow_run(name, plan, state, inputs)
    for trained in (frozenset[BlockId](), some_heads(plan, seed), frozenset(plan.head_ids())):
        inject(model, plan, state, trained)
        for layer in layers_of(model, plan):
            layer.path = path
        assert_near(run(name, model, inputs), expected)
    assert (plain - expected).abs().max() > 1e-2, "the heads change nothing, so the test shows nothing"


@pytest.mark.parametrize("path", list(arithmetic.Path))
def test_gradients_are_those_of_slow_heads(name: str, path: arithmetic.Path) -> None:
    model, plan, inputs = build(name), family_plan(name), FAMILIES[name].inputs()
    state, trained = strong_state(plan, 4), some_heads(plan, 4)
    inject(model, plan, state, trained)
    for layer in layers_of(model, plan):
        layer.path = path
    run(name, model, inputs).square().sum().backward()  # type: ignore[no-untyped-call]
    slow, outputs = slow_run(name, plan, state, inputs)
    outputs.square().sum().backward()  # type: ignore[no-untyped-call]
    for matrix, layer in zip(plan.matrices, layers_of(model, plan), strict=True):
        by_hand = slow.get_submodule(matrix.name)
        assert isinstance(by_hand, SlowHeads)
        assert set(layer.trained) == {b.index for b in trained & set(plan.head_ids()) if b.matrix == matrix.ordinal}
        if layer.trained:
            cores = [gradient(by_hand.cores[head]) for head in layer.trained]
            scales = [gradient(by_hand.scales[head]) for head in layer.trained]
            assert_near(torch.cat([gradient(layer.cores), gradient(layer.scales)]), torch.cat([*cores, *scales]))
    for dense in plan.dense:
        assert_near(gradient(model.get_parameter(dense.name)), gradient(slow.get_parameter(dense.name)))


def test_gradients_reach_exactly_the_trained_heads(name: str) -> None:
    model, plan = build(name), family_plan(name)
    trained = some_heads(plan, 4)
    inject(model, plan, random_state(plan, 4), trained)
    run(name, model, FAMILIES[name].inputs()).square().sum().backward()  # type: ignore[no-untyped-call]
    with_gradient = {n for n, p in model.named_parameters() if p.grad is not None}
    layers = {m.ordinal: m.name for m in plan.matrices}
    heads = {b for b in trained if b.kind is BlockKind.HEAD}
    expected = {f"{layers[b.matrix]}.{part}" for b in heads for part in ("cores", "scales")}
    assert with_gradient == expected | {dense.name for dense in plan.dense}


def test_deltas_are_the_change_of_products(name: str) -> None:
    """s_i (H_i + step) - H_i for every trained head, new less old for dense blocks, nothing for the others."""
    model, plan = build(name), family_plan(name)
    state, trained = random_state(plan, 2), some_heads(plan, 2)
    inject(model, plan, state, trained)
    generator = np.random.default_rng(7)
    expected: dict[BlockId, FloatArray] = {}
    for matrix, layer in zip(plan.matrices, layers_of(model, plan), strict=True):
        for position, head in enumerate(layer.trained):
            block = BlockId(BlockKind.HEAD, 0, matrix.ordinal, head)
            scale, step = generator.normal(1, 0.3), generator.normal(0, 0.1, state[block].shape).astype(np.float32)
            assert layer.cores is not None
            assert layer.scales is not None
            layer.scales.data[position] = scale
            layer.cores.data[position] += torch.from_numpy(step)
            expected[block] = scale * (state[block] + step) - state[block]
    for block, dense in zip(plan.dense_ids(), plan.dense, strict=True):
        model.get_parameter(dense.name).data += 0.25
        expected[block] = np.full(dense.shape, 0.25, np.float32)
    deltas = local_deltas(model, plan, state, trained)
    assert deltas.keys() == expected.keys() == trained
    for block, delta in deltas.items():
        np.testing.assert_allclose(delta, expected[block], atol=1e-6)


def test_remove_restores_the_model_bit_for_bit(name: str) -> None:
    model, plan, inputs = build(name), family_plan(name), FAMILIES[name].inputs()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    output = run(name, model, inputs)
    heads_only = plan_for([(m.name, m.out_features, m.in_features) for m in plan.matrices], plan.adapter)
    for seed in range(3):
        inject(model, heads_only, random_state(heads_only, seed), some_heads(heads_only, seed))
    assert len(layers_of(model, plan)) == FAMILIES[name].linears
    remove(model)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert torch.equal(run(name, model, inputs), output)


def test_merged_model_is_a_plain_model_that_answers_the_same(name: str, tmp_path: Path) -> None:
    """Also after `save_pretrained`, loaded by the library alone."""
    model, plan, inputs = build(name), family_plan(name), FAMILIES[name].inputs()
    state = strong_state(plan, 3)
    _, expected = slow_run(name, plan, state, inputs)
    names = set(model.state_dict())
    merge_heads(model, plan, state)
    assert set(model.state_dict()) == names
    assert not [m for m in model.modules() if isinstance(m, RavanLinear)]
    assert_near(run(name, model, inputs), expected)
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    loaded = type(model).from_pretrained(tmp_path).eval()  # type: ignore[attr-defined]
    assert torch.equal(run(name, loaded, inputs), run(name, model, inputs))


def learned(name: str, precision: Precision) -> tuple[Tensor, dict[BlockId, FloatArray]]:
    """Outputs, and the deltas of one step of plain gradient descent."""
    torch.manual_seed(5)
    model, plan, inputs = build(name), family_plan(name), FAMILIES[name].inputs()
    apply_precision(model, precision, [dense.name for dense in plan.dense])
    state, trained = random_state(plan, 6), some_heads(plan, 6)
    inject(model, plan, state, trained)
    outputs = run(name, model, inputs)
    outputs.float().square().sum().backward()  # type: ignore[no-untyped-call]
    parameters = trained_parameters(model, plan)
    torch.optim.SGD([*parameters.heads, *parameters.dense], lr=0.5).step()
    return outputs.detach(), local_deltas(model, plan, state, trained)


@pytest.mark.parametrize("precision", [Precision.BFLOAT16, Precision.INT8])
def test_narrow_models_answer_and_learn_nearly_as_in_float32(name: str, precision: Precision) -> None:
    """Some thirty roundings of 2^-8 on the way there and back, of either sign: 2 % or so; a lost term would be half."""
    outputs, deltas = learned(name, precision)
    wanted, expected = learned(name, Precision.FLOAT32)
    assert outputs.dtype is (torch.float32 if FAMILIES[name].dense else torch.bfloat16)
    assert (outputs - wanted).norm() <= 0.05 * wanted.norm()
    assert deltas.keys() == expected.keys()
    for kind in {block.kind for block in deltas}:
        found, right = (
            np.concatenate([each[block].ravel() for block in sorted(each) if block.kind is kind])
            for each in (deltas, expected)
        )
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
        assert np.linalg.norm(right) > 1e-4, "nothing was learned"
        assert np.linalg.norm(found - right) <= 0.1 * np.linalg.norm(right)


def test_peft_gives_the_same_logits(name: str, tmp_path: Path) -> None:
    model, plan, inputs = build(name), family_plan(name), FAMILIES[name].inputs()
    state = strong_state(plan, 5)
    plain = run(name, model, inputs)
    inject(model, plan, state, frozenset(plan.head_ids()))
    expected = run(name, model, inputs)
    export_peft(plan, state, tmp_path, f"tiny/{name}")
    theirs = PeftModel.from_pretrained(build(name), tmp_path).eval()
    torch.testing.assert_close(run(name, theirs, inputs), expected, atol=1e-5, rtol=0)
    assert (plain - expected).abs().max() > 1e-2
    config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["target_modules"] == [matrix.name for matrix in plan.matrices]


@pytest.mark.parametrize("rank", [1, 3])
def test_peft_cut_to_a_rank_is_the_nearest_update_of_that_rank(name: str, rank: int, tmp_path: Path) -> None:
    """Each matrix is held against the singular value decomposition of its whole update, made by slow heads."""
    model, plan, inputs = build(name), family_plan(name), FAMILIES[name].inputs()
    state = strong_state(plan, 6)
    nearest = build(name).double()
    for matrix in plan.matrices:
        update = torch.from_numpy(update_by_hand(plan, matrix, cores_of(state, matrix)))
        u, values, v = torch.linalg.svd(update, full_matrices=False)
        nearest.get_parameter(f"{matrix.name}.weight").data += (u[:, :rank] * values[:rank]) @ v[:rank]
    for block, dense in zip(plan.dense_ids(), plan.dense, strict=True):
        nearest.get_parameter(dense.name).data = torch.from_numpy(state[block]).double()
    export_peft(plan, state, tmp_path, f"tiny/{name}", rank=rank)
    theirs = PeftModel.from_pretrained(model, tmp_path).eval()
    expected = run(name, nearest, {k: x.double() if x.is_floating_point() else x for k, x in inputs.items()})
    assert_near(run(name, theirs, inputs), expected)
    config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    full = {matrix.name: HEADS * (matrix.rank or plan.adapter.rank) for matrix in plan.matrices}
    kept = {layer: config["rank_pattern"].get(layer, config["r"]) for layer in full}
    assert kept == {layer: min(rank, whole) for layer, whole in full.items()}
