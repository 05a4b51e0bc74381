"""A whole model in the precision that a job asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from adapter_plans import plan_for, random_state, settings_for
from tiny_models import FAMILIES, build, run
from torch import Tensor, nn

from ravan.adapters.int8 import Int8Linear, quantise_rows
from ravan.adapters.model import find_linears, inject, local_deltas, merge_heads, remove, trained_parameters
from ravan.adapters.narrow import Bfloat16Linear
from ravan.adapters.precision import apply_precision, widen_model
from ravan.errors import ErrorReason, ModelError
from ravan.manifest.plan import JobPlan, Precision

CLASSIFIER = ("classifier.weight", "classifier.bias")
NARROW = [Precision.BFLOAT16, Precision.INT8]


def narrowed(name: str, precision: Precision, keep: tuple[str, ...] = CLASSIFIER) -> nn.Module:
    model = build(name)
    apply_precision(model, precision, keep)
    return model


def bert_plan() -> JobPlan:
    dense = [(name, tuple(build("bert").get_parameter(name).shape)) for name in CLASSIFIER]
    return plan_for(find_linears(build("bert"), ["query", "value"]), settings_for(2, 3), dense)


def float_bytes(model: nn.Module) -> int:
    tensors = {id(t): t for t in (*model.parameters(), *model.buffers())}
    return sum(t.numel() * t.itemsize for t in tensors.values())


def test_float32_changes_nothing() -> None:
    model = build("bert")
    before = {name: p.data_ptr() for name, p in model.named_parameters()}
    apply_precision(model, Precision.FLOAT32, CLASSIFIER)
    assert {name: p.data_ptr() for name, p in model.named_parameters()} == before
    assert not [m for m in model.modules() if isinstance(m, Bfloat16Linear | Int8Linear)]


def test_bfloat16_rounds_every_weight_but_those_that_train() -> None:
    model, original = narrowed("bert", Precision.BFLOAT16), dict(build("bert").named_parameters())
    assert {name for name, p in model.named_parameters() if p.dtype is torch.float32} == set(CLASSIFIER)
    assert list(original) == [name for name, _ in model.named_parameters()]
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, original[name].to(parameter.dtype))


def test_int8_takes_the_original_weights_of_all_linear_layers() -> None:
    model, original = narrowed("bert", Precision.INT8), build("bert")
    linears = {name for name, m in original.named_modules() if type(m) is nn.Linear} - {"classifier"}
    layers = {name: m for name, m in model.named_modules() if isinstance(m, Int8Linear)}
    assert layers.keys() == linears
    for name, layer in layers.items():
        numbers, _ = quantise_rows(original.get_parameter(f"{name}.weight").detach())
        assert torch.equal(layer.numbers, numbers), "quantised after it was rounded"
    others = {p.dtype for name, p in model.named_parameters() if name not in CLASSIFIER}
    assert others == {torch.bfloat16}


@pytest.mark.parametrize("precision", NARROW)
def test_layers_are_found_and_heads_put_in_and_taken_out_as_in_float32(precision: Precision) -> None:
    model, plan = narrowed("bert", precision), bert_plan()
    assert find_linears(model, ["query", "value"]) == find_linears(build("bert"), ["query", "value"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    answer = run("bert", model, FAMILIES["bert"].inputs())
    inject(model, plan, random_state(plan, 0) | {b: before_of(model, plan, b) for b in plan.dense_ids()}, frozenset())
    assert not torch.equal(run("bert", model, FAMILIES["bert"].inputs()), answer)
    remove(model)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(run("bert", model, FAMILIES["bert"].inputs()), answer)


def before_of(model: nn.Module, plan: JobPlan, block: Any) -> Any:
    return model.get_parameter(plan.dense[block.matrix].name).detach().numpy().copy()


@pytest.mark.parametrize("precision", NARROW)
def test_small_steps_of_heads_and_classifier_are_not_rounded_away(precision: Precision) -> None:
    """Deltas of a ten-thousandth, which bfloat16 could not tell from none, arrive as the float32 numbers they are."""
    model, plan = narrowed("bert", precision), bert_plan()
    state, everything = random_state(plan, 0), frozenset(plan.head_ids() + plan.dense_ids())
    inject(model, plan, state, everything)
    parameters = trained_parameters(model, plan)
    optimiser = torch.optim.AdamW([*parameters.heads, *parameters.dense], lr=1e-5, weight_decay=0.0)
    logits = run("bert", model, FAMILIES["bert"].inputs())
    assert logits.dtype is torch.float32
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    assert {value.dtype for held in optimiser.state.values() for value in held.values()} == {torch.float32}
    deltas = local_deltas(model, plan, state, everything)
    assert {delta.dtype for delta in deltas.values()} == {np.dtype(np.float32)}
    for block in plan.dense_ids():
        # Adam's first step is the rate for every number, whatever its gradient; exact but for float32's own places.
        np.testing.assert_allclose(np.abs(deltas[block]), 1e-5, atol=2e-8)
    assert all(0 < np.abs(deltas[block]).max() < 3e-5 for block in plan.head_ids())


@pytest.mark.parametrize("precision", NARROW)
def test_new_parameters_inside_the_model_pass_on_what_their_neighbours_do(precision: Precision) -> None:
    """A pooler that the weights' file lacks is trained whole, between parts that are not."""
    keep = ("bert.pooler.dense.weight", "bert.pooler.dense.bias", *CLASSIFIER)
    model = narrowed("bert", precision, keep)
    seen: dict[str, tuple[torch.dtype, torch.dtype]] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen[name] = (inputs[0].dtype, output.dtype)

        return hook

    for name in ("bert.pooler.dense", "bert.pooler.activation", "classifier"):
        model.get_submodule(name).register_forward_hook(note(name))
    run("bert", model, FAMILIES["bert"].inputs())
    assert seen == {
        "bert.pooler.dense": (torch.float32, torch.bfloat16),
        "bert.pooler.activation": (torch.bfloat16, torch.bfloat16),
        "classifier": (torch.float32, torch.float32),
    }


def test_new_parameter_of_a_part_with_parts_is_refused_with_what_to_set() -> None:
    with pytest.raises(ModelError, match=r"dinov2\.embeddings itself") as refused:
        narrowed("dinov2", Precision.BFLOAT16, ("dinov2.embeddings.cls_token",))
    assert refused.value.reason is ErrorReason.MODEL_INVALID
    assert 'precision = "float32"' in refused.value.next_step


@pytest.mark.parametrize("precision", NARROW)
def test_a_weight_in_two_places_stays_one(precision: Precision) -> None:
    model = narrowed("smollm2", precision, ())
    table, output = model.get_parameter("model.embed_tokens.weight"), model.get_parameter("lm_head.weight")
    assert table is output
    assert table.dtype is torch.bfloat16


def test_batch_normalisation_stays_float32() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    apply_precision(model, Precision.BFLOAT16, ())
    assert {p.dtype for p in model[1].parameters()} == {torch.float32}
    assert model(torch.randn(3, 4)).dtype is torch.bfloat16


def test_each_precision_takes_less_memory_than_the_one_before() -> None:
    whole, half, quarter = (float_bytes(narrowed("llama", p, ("score.weight",))) for p in Precision)
    score = build("llama").get_parameter("score.weight")
    # Buffers, such as the frequencies of rotary embeddings, stay.
    fixed = 4 * (score.numel() + sum(b.numel() for b in build("llama").buffers()))
    assert half - fixed == (whole - fixed) // 2
    linears = find_linears(build("llama"), ["all"])
    assert half - quarter == sum(out * inputs - 4 * out for _, out, inputs in linears)


@pytest.mark.parametrize("precision", NARROW)
def test_widened_model_is_plain_and_answers_the_same(precision: Precision) -> None:
    model, plan = narrowed("bert", precision), bert_plan()
    state = random_state(plan, 3)
    inject(model, plan, state, frozenset())
    expected = run("bert", model, FAMILIES["bert"].inputs())
    merge_heads(model, plan, state)
    widen_model(model)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert {type(m) for m in model.modules() if hasattr(m, "in_features")} == {nn.Linear}
    assert set(model.state_dict()) == set(build("bert").state_dict())
    found = run("bert", model, FAMILIES["bert"].inputs())
    # Activations were rounded to eight bits some thirty times on the way.
    assert (found - expected).abs().max() <= 30 * 2.0**-8 * expected.abs().max()


def test_widened_model_keeps_one_weight_in_two_places() -> None:
    model = narrowed("smollm2", Precision.BFLOAT16, ())
    widen_model(model)
    assert model.get_parameter("model.embed_tokens.weight") is model.get_parameter("lm_head.weight")
