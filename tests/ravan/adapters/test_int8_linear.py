"""Weights in whole numbers of eight bits: how far off they are, and what they give."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import linear

from ravan.adapters.int8 import Int8Linear, quantise_rows
from ravan.errors import ErrorReason, ModelError

OUT, IN = 6, 40


def weights(seed: int = 0) -> Tensor:
    return torch.randn(OUT, IN, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 1000), st.lists(st.floats(-40, 30), min_size=OUT, max_size=OUT))
def test_no_weight_is_off_by_more_than_half_a_step_of_its_row(seed: int, exponents: list[float]) -> None:
    weight = weights(seed) * torch.tensor(exponents).exp2()[:, None]
    numbers, scales = quantise_rows(weight)
    assert numbers.dtype is torch.int8
    assert scales.shape == (OUT, 1)
    error = (numbers.double() * scales.double() - weight.double()).abs()
    steps = weight.double().abs().amax(1, keepdim=True) / 127
    # Half a step by hand, and float32's rounding of the scale and of the quotient.
    assert (error <= steps * (0.5 + 127 * 2.0**-22)).all()


def test_the_largest_weight_of_each_row_takes_the_last_step() -> None:
    numbers, _ = quantise_rows(weights())
    assert (numbers.abs().amax(1) == 127).all()


def test_rows_of_nothing_stay_nothing() -> None:
    weight = torch.zeros(3, IN)
    weight[1] = 1e-44  # a 127th of it is 0 in float32
    numbers, scales = quantise_rows(weight)
    assert not numbers.any()
    assert (scales > 0).all()


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(broken: float) -> None:
    layer = nn.Linear(IN, OUT)
    layer.weight.data[2, 3] = broken
    with pytest.raises(ModelError, match="not a finite number") as refused:
        Int8Linear.of(layer)
    assert refused.value.reason is ErrorReason.MODEL_INVALID


@pytest.mark.parametrize("bias", [True, False])
def test_it_answers_and_passes_gradients_as_its_widened_weight_does(bias: bool) -> None:
    original = nn.Linear(IN, OUT, bias=bias)
    layer = Int8Linear.of(original)
    widened = layer.numbers.double() * layer.scales.double()
    x = torch.randn(4, IN).requires_grad_()
    found = layer(x)
    expected = linear(x.detach().double(), widened, None if layer.bias is None else layer.bias.double())
    assert found.dtype is torch.bfloat16
    assert ((found.double() - expected).abs() <= 2.0**-8 * expected.abs() + 1e-5).all()
    found.backward(torch.ones_like(found))
    assert x.grad is not None
    torch.testing.assert_close(x.grad.double(), torch.ones(4, OUT).double() @ widened, atol=1e-5, rtol=0)


def test_model_code_finds_a_weight_with_type_and_shape() -> None:
    layer = Int8Linear.of(nn.Linear(IN, OUT))
    assert layer.weight.is_floating_point()
    assert layer.weight.shape == (layer.out_features, layer.in_features) == (OUT, IN)
    assert not list(layer.parameters())


def test_nothing_of_the_original_is_kept() -> None:
    original = nn.Linear(IN, OUT)
    layer = Int8Linear.of(original)
    assert original.bias is not None
    assert layer.bias is not None
    assert layer.bias.data_ptr() != original.bias.data_ptr()
