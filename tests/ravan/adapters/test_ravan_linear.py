"""One layer with heads against a slow implementation written from the paper's formula."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from adapter_plans import DRAWN_KINDS, settings_for
from numpy.typing import NDArray
from torch import nn

from ravan.adapters import algebra
from ravan.adapters.basis import Basis, draw_basis
from ravan.adapters.layer import RavanLinear
from ravan.errors import ModelError
from ravan.manifest.plan import BasisKind

OUT, IN, HEADS, RANK, TOKENS = 12, 9, 3, 2, 5

Array = NDArray[Any]


def weight_by_hand(weight: Array, basis: Basis, cores: Array, scales: Sequence[float]) -> Array:
    """W + sum_i s_i B_i H_i A_i, number by number in float64."""
    result = weight.astype(np.float64).copy()
    for i, scale in enumerate(scales):
        for o in range(weight.shape[0]):
            for n in range(weight.shape[1]):
                for p in range(cores.shape[1]):
                    for q in range(cores.shape[2]):
                        result[o, n] += (
                            scale * float(basis.b[i, o, p]) * float(cores[i, p, q]) * float(basis.a[i, q, n])
                        )
    return result


def forward_by_hand(weight: Array, bias: Array | None, x: Array) -> Array:
    y = np.zeros((x.shape[0], weight.shape[0]))
    for t in range(x.shape[0]):
        for o in range(weight.shape[0]):
            y[t, o] = sum(weight[o, n] * float(x[t, n]) for n in range(x.shape[1])) + (0 if bias is None else bias[o])
    return y


class Example:
    """A layer with three heads of which 0 and 2 are trained, at a state away from zero."""

    def __init__(self, kind: BasisKind = BasisKind.GRAM_SCHMIDT, trained: tuple[int, ...] = (0, 2)) -> None:
        torch.manual_seed(1)
        self.linear = nn.Linear(IN, OUT)
        self.basis = draw_basis(settings_for(HEADS, RANK, kind), 0, OUT, IN)
        self.cores = torch.randn(HEADS, RANK, RANK)
        self.layer = RavanLinear(self.linear)
        self.layer.load_heads(self.basis, self.cores, trained, train_scales=True)
        self.x = torch.randn(TOKENS, IN, requires_grad=True)
        self.scales = [1.0] * HEADS

    def move_scales(self, scales: list[float]) -> None:
        self.scales = scales
        assert self.layer.scales is not None
        self.layer.scales.data = torch.tensor([scales[i] for i in self.layer.trained])

    def expected(self, cores: Array | None = None, scales: list[float] | None = None, x: Array | None = None) -> Array:
        weight = self.linear.weight.detach().numpy()
        whole = weight_by_hand(
            weight,
            self.basis,
            self.cores.numpy() if cores is None else cores,
            self.scales if scales is None else scales,
        )
        return forward_by_hand(whole, self.linear.bias.detach().numpy(), self.x.detach().numpy() if x is None else x)


@pytest.mark.parametrize("kind", DRAWN_KINDS)
@pytest.mark.parametrize("trained", [(), (1,), (0, 2), (0, 1, 2)])
def test_forward_is_the_formula_whichever_heads_train(kind: BasisKind, trained: tuple[int, ...]) -> None:
    example = Example(kind, trained)
    np.testing.assert_allclose(example.layer(example.x).detach().numpy(), example.expected(), atol=1e-5)


def test_forward_keeps_leading_dimensions() -> None:
    example = Example()
    x = example.x.detach()
    batched = example.layer(x.reshape(1, TOKENS, IN).expand(2, -1, -1))
    assert batched.shape == (2, TOKENS, OUT)
    np.testing.assert_allclose(batched[1].detach().numpy(), example.expected(), atol=1e-5)


def test_forward_without_bias() -> None:
    linear = nn.Linear(IN, OUT, bias=False)
    layer = RavanLinear(linear)
    layer.load_heads(
        draw_basis(settings_for(HEADS, RANK), 0, OUT, IN), torch.zeros(HEADS, RANK, RANK), (0,), train_scales=True
    )
    x = torch.randn(TOKENS, IN)
    expected = forward_by_hand(linear.weight.detach().numpy(), None, x.numpy())
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, atol=1e-5)


def test_gradients_are_those_of_the_formula() -> None:
    """Central differences of the slow implementation, in float64, against autograd."""
    example = Example()
    example.move_scales([1.25, 1.0, 0.5])
    probe = np.random.default_rng(0).normal(size=(TOKENS, OUT))
    (example.layer(example.x) * torch.from_numpy(probe).float()).sum().backward()
    cores, x = example.cores.numpy().astype(np.float64), example.x.detach().numpy().astype(np.float64)
    assert example.layer.cores is not None
    assert example.layer.scales is not None
    assert example.x.grad is not None
    for position, head in enumerate((0, 2)):
        assert example.layer.cores.grad is not None
        for p in range(RANK):
            for q in range(RANK):
                shift = np.zeros_like(cores)
                shift[head, p, q] = 1e-3
                slope = ((example.expected(cores + shift) - example.expected(cores - shift)) * probe).sum() / 2e-3
                assert example.layer.cores.grad[position, p, q].item() == pytest.approx(slope, rel=1e-4, abs=1e-5)
        up, down = list(example.scales), list(example.scales)
        up[head], down[head] = up[head] + 1e-3, down[head] - 1e-3
        slope = ((example.expected(scales=up) - example.expected(scales=down)) * probe).sum() / 2e-3
        assert example.layer.scales.grad is not None
        assert example.layer.scales.grad[position].item() == pytest.approx(slope, rel=1e-4, abs=1e-5)
    for t, n in [(0, 0), (2, 5), (4, 8)]:
        shift = np.zeros_like(x)
        shift[t, n] = 1e-3
        slope = ((example.expected(x=x + shift) - example.expected(x=x - shift)) * probe).sum() / 2e-3
        assert example.x.grad[t, n].item() == pytest.approx(slope, rel=1e-4, abs=1e-5)


def test_only_trained_heads_have_parameters_that_train() -> None:
    example = Example(trained=(1,))
    trainable = {name: tuple(p.shape) for name, p in example.layer.named_parameters() if p.requires_grad}
    assert trainable == {"cores": (1, RANK, RANK), "scales": (1,)}


def test_untrained_layer_is_a_plain_linear_without_gradients() -> None:
    example = Example(trained=())
    y = example.layer(example.x.detach())
    assert not y.requires_grad
    assert not [name for name, p in example.layer.named_parameters() if p.requires_grad]


def test_base_weight_is_never_touched() -> None:
    torch.manual_seed(3)
    linear = nn.Linear(IN, OUT)
    before = linear.weight.detach().clone()
    address = linear.weight.data_ptr()
    layer = RavanLinear(linear)
    layer.load_heads(
        draw_basis(settings_for(HEADS, RANK), 0, OUT, IN), torch.randn(HEADS, RANK, RANK), (1,), train_scales=True
    )
    assert not torch.equal(layer.weight, before), "heads 0 and 2 are folded"
    assert torch.equal(linear.weight, before)
    assert linear.weight.data_ptr() == address


def test_heads_at_zero_cost_no_copy_of_the_weight() -> None:
    layer = RavanLinear(nn.Linear(IN, OUT))
    layer.load_heads(
        draw_basis(settings_for(HEADS, RANK), 0, OUT, IN), torch.zeros(HEADS, RANK, RANK), (0,), train_scales=True
    )
    assert layer.folded is None


def test_scales_can_be_held_at_one() -> None:
    layer = RavanLinear(nn.Linear(IN, OUT))
    layer.load_heads(
        draw_basis(settings_for(HEADS, RANK), 0, OUT, IN), torch.zeros(HEADS, RANK, RANK), (0,), train_scales=False
    )
    assert [name for name, p in layer.named_parameters() if p.requires_grad] == ["cores"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_weight_of_a_type_without_arithmetic_is_refused(dtype: torch.dtype) -> None:
    with pytest.raises(ModelError, match=str(dtype)):
        RavanLinear(nn.Linear(IN, OUT, dtype=dtype))


def test_delta_weight_is_the_formula() -> None:
    basis = draw_basis(settings_for(HEADS, RANK, BasisKind.NORMAL), 0, OUT, IN)
    products = torch.randn(HEADS, RANK, RANK)
    delta = algebra.delta_weight(torch.from_numpy(basis.b), torch.from_numpy(basis.a), products)
    expected = weight_by_hand(np.zeros((OUT, IN)), basis, products.numpy(), [1.0] * HEADS)
    np.testing.assert_allclose(delta.numpy(), expected, atol=1e-5)
