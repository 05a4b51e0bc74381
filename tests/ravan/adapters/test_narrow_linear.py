"""Layers whose weight is bfloat16 or int8, against the naive sum over heads in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from adapter_plans import settings_for
from kept_tensors import kept_for_backward
from torch import Tensor, nn

from ravan.adapters import narrow
from ravan.adapters.algebra import stack_columns, stack_rows
from ravan.adapters.arithmetic import Path
from ravan.adapters.basis import Basis, draw_basis
from ravan.adapters.int8 import Int8Linear
from ravan.adapters.layer import BaseLinear, RavanLinear
from ravan.adapters.narrow import NarrowWeight, SideHeads, narrow_linear

OUT, IN, HEADS, RANK, TOKENS = 12, 9, 3, 2, 5

ROUNDING = 2.0**-8
"""Half a unit in the last of bfloat16's eight places: what one rounding takes, relative to the number."""

PATHS = list(Path)
BASES: dict[str, Callable[[nn.Linear], BaseLinear]] = {
    "bfloat16": lambda linear: linear.to(torch.bfloat16),
    "int8": Int8Linear.of,
}


@pytest.fixture(autouse=True, params=[1 << 21, 4 * IN], ids=["one block", "several"])
def _block_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrow, "_BLOCK_NUMBERS", request.param)


class Example:
    """A narrow layer at a state away from zero, and the same in float64, unrounded."""

    def __init__(self, kind: str, trained: tuple[int, ...] = (0, 2), *, bias: bool = True) -> None:
        torch.manual_seed(1)
        self.base = BASES[kind](nn.Linear(IN, OUT, bias=bias))
        self.basis = draw_basis(settings_for(HEADS, RANK), 0, OUT, IN)
        self.products = torch.randn(HEADS, RANK, RANK)
        self.layer = RavanLinear(self.base)
        self.layer.load_heads(self.basis, self.products, trained, train_scales=True)
        self.x = torch.randn(2, TOKENS, IN).bfloat16().requires_grad_()
        self.probe = torch.randn(2, TOKENS, OUT).bfloat16()

    def naive(self, x: Tensor, products: Tensor) -> Tensor:
        y = x @ self.base.weight.detach().double().T
        b, a = torch.from_numpy(self.basis.b).double(), torch.from_numpy(self.basis.a).double()
        for head in range(HEADS):
            y = y + ((x @ a[head].T) @ products[head].T) @ b[head].T
        return y if self.base.bias is None else y + self.base.bias.detach().double()


def doubled(tensor: Tensor) -> Tensor:
    return tensor.detach().double().requires_grad_()


def sizes(example: Example) -> tuple[Tensor, Tensor]:
    """|B| side by side and |A| below each other: what the errors of rounded bases are bounded with."""
    b, a = torch.from_numpy(example.basis.b), torch.from_numpy(example.basis.a)
    return stack_columns(b).double().abs(), stack_rows(a).double().abs()


def spread(products: Tensor) -> Tensor:
    heads, rank, _ = products.shape
    whole = torch.zeros(heads, rank, heads, rank, dtype=torch.float64)
    for head in range(heads):
        whole[head, :, head] = products[head].double().abs()
    return whole.view(heads * rank, heads * rank)


def assert_within(actual: Tensor, expected: Tensor, bound: Tensor) -> None:
    """Within a bound for each number, and float32's own sums."""
    assert (bound < expected.abs().max()).all(), "the bound allows anything"
    excess = (actual.detach().double() - expected).abs() - bound
    assert excess.max() <= 1e-5 * expected.abs().max()


TWO_BASES = 2 * ROUNDING + ROUNDING**2
"""Relative error of a product with both bases rounded."""


@pytest.mark.parametrize("kind", BASES)
@pytest.mark.parametrize("path", [None, *PATHS])
@pytest.mark.parametrize("trained", [(), (1,), (0, 1, 2)])
@pytest.mark.parametrize("bias", [True, False])
def test_outputs_are_off_by_the_rounding_of_bases_and_result_alone(
    kind: str, path: Path | None, trained: tuple[int, ...], bias: bool
) -> None:
    example = Example(kind, trained, bias=bias)
    example.layer.path = path
    found = example.layer(example.x)
    assert found.dtype is torch.bfloat16
    expected = example.naive(example.x.detach().double(), example.products.double())
    b, a = sizes(example)
    through = example.x.detach().double().abs() @ a.T @ spread(example.products).T @ b.T
    assert_within(found, expected, ROUNDING * expected.abs() + (1 + ROUNDING) * TWO_BASES * through)


@pytest.mark.parametrize("kind", BASES)
@pytest.mark.parametrize("path", PATHS)
def test_gradients_are_those_of_the_naive_sum_within_the_same_rounding(kind: str, path: Path) -> None:
    example = Example(kind, (0, 2))
    example.layer.path = path
    example.layer(example.x).backward(example.probe)
    x, products = doubled(example.x), doubled(example.products)
    example.naive(x, products).backward(example.probe.double())  # type: ignore[no-untyped-call]
    b, a = sizes(example)
    g = example.probe.double().abs()
    assert x.grad is not None
    assert example.x.grad is not None
    through = g @ b @ spread(example.products) @ a
    assert_within(example.x.grad, x.grad, ROUNDING * x.grad.abs() + (1 + ROUNDING) * TWO_BASES * through)
    layer = example.layer
    assert layer.cores is not None
    assert layer.cores.grad is not None
    assert products.grad is not None
    assert layer.cores.grad.dtype is torch.float32
    outer = b.T @ (g.reshape(-1, OUT).T @ x.detach().abs().reshape(-1, IN)) @ a.T  # (h r, h r)
    for position, head in enumerate((0, 2)):
        own = slice(head * RANK, (head + 1) * RANK)
        assert_within(layer.cores.grad[position], products.grad[head], TWO_BASES * outer[own, own])
    assert layer.scales is not None
    assert layer.scales.grad is not None
    slopes = (layer.cores.grad * layer.cores.detach()).sum((1, 2))
    torch.testing.assert_close(layer.scales.grad, slopes)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", BASES)
def test_gradients_pass_gradcheck_in_double_precision(kind: str, path: Path) -> None:
    example = Example(kind)
    base = example.base
    weight = NarrowWeight(numbers=base.numbers, scales=base.scales.double()) if isinstance(base, Int8Linear) else None
    stored = weight or NarrowWeight(numbers=base.weight.detach())
    b, a = torch.from_numpy(example.basis.b).double(), torch.from_numpy(example.basis.a).double()

    def function(x: Tensor, trained: Tensor) -> Tensor:
        heads = SideHeads(
            columns=stack_columns(b), rows=stack_rows(a), trained=trained, resting=example.products[2:].double()
        )
        return narrow_linear(x, stored, None, heads, path)

    assert torch.autograd.gradcheck(function, (doubled(example.x), doubled(example.products[:2])), atol=1e-8)


@pytest.mark.parametrize("kind", BASES)
@pytest.mark.parametrize("trained", [(), (0,)], ids=["resting", "trained"])
def test_products_far_below_a_step_of_the_weight_change_the_output(kind: str, trained: tuple[int, ...]) -> None:
    """A ten-thousandth of the weight is lost in a weight of eight bits, so nothing may be folded there."""
    torch.manual_seed(2)
    linear = nn.Linear(IN, OUT, bias=False)
    half = torch.rand(OUT) / 2 + 0.5
    with torch.no_grad():
        linear.weight[:, 0], linear.weight[:, 1] = half, -half
        linear.weight[:, 2:] = torch.rand(OUT, IN - 2) / 2 + 0.5
    base = BASES[kind](linear)
    basis = draw_basis(settings_for(1, RANK), 0, OUT, IN)
    core = torch.eye(RANK)
    delta = torch.from_numpy(basis.b[0] @ core.numpy() @ basis.a[0]).double()
    factor = 1e-4 * float(half.min() / delta.abs().max())
    stored = base.weight.detach()
    assert torch.equal((stored.double() + factor * delta).bfloat16(), stored.bfloat16()), "a fold would show as well"
    layer = RavanLinear(base)
    layer.load_heads(basis, (factor * core)[None], trained, train_scales=True)
    x = torch.zeros(1, IN, dtype=torch.bfloat16)
    x[0, :2] = 1.0  # takes the weight's part to nothing, exactly
    assert not RavanLinear(base)(x).any()
    expected = factor * (delta @ x[0].double())
    found = layer(x)[0].detach().double()
    b, a = (torch.from_numpy(side[0]).double().abs() for side in (basis.b, basis.a))
    bound = ROUNDING * expected.abs() + (1 + ROUNDING) * TWO_BASES * factor * (b @ a @ x[0].double())
    assert_within(found, expected, bound)


@pytest.mark.parametrize("kind", BASES)
@pytest.mark.parametrize("path", PATHS)
def test_no_wide_weight_is_kept_for_the_backward_pass(kind: str, path: Path) -> None:
    example = Example(kind)
    example.layer.path = path
    kept = kept_for_backward(lambda: example.layer(example.x))
    wide = [t for t in kept if t.dtype.is_floating_point and t.dtype.itemsize > 2 and t.numel() >= OUT * IN]
    assert kept
    assert not wide


@pytest.mark.parametrize("kind", BASES)
def test_layer_without_heads_keeps_nothing_but_the_stored_weight(kind: str) -> None:
    example = Example(kind)
    layer = RavanLinear(example.base)
    kept = kept_for_backward(lambda: layer(example.x))
    stored = example.base.numbers if isinstance(example.base, Int8Linear) else example.base.weight
    assert {t.data_ptr() for t in kept} <= {stored.data_ptr(), getattr(example.base, "scales", stored).data_ptr()}


@pytest.mark.parametrize("kind", BASES)
def test_heads_train_in_float32_beside_bases_of_half_the_size(kind: str) -> None:
    layer = Example(kind).layer
    assert {name: p.dtype for name, p in layer.named_parameters() if p.requires_grad} == {
        "cores": torch.float32,
        "scales": torch.float32,
    }
    assert layer.columns is not None
    assert layer.resting is not None
    assert layer.columns.dtype is torch.bfloat16
    assert layer.resting.dtype is torch.float32
    assert layer.folded is None


def test_heads_at_zero_that_rest_hold_no_bases() -> None:
    layer = RavanLinear(nn.Linear(IN, OUT).to(torch.bfloat16))
    basis: Basis = draw_basis(settings_for(HEADS, RANK), 0, OUT, IN)
    layer.load_heads(basis, torch.zeros(HEADS, RANK, RANK), (), train_scales=True)
    assert layer.columns is None


@pytest.mark.parametrize("kind", BASES)
def test_merged_is_a_plain_layer_in_float32_with_all_heads(kind: str) -> None:
    example = Example(kind, ())
    plain = example.layer.merged()
    assert type(plain) is nn.Linear
    assert plain.weight.dtype is torch.float32
    x = example.x.detach()
    wide = plain(x.float())
    assert (example.layer(x).double() - wide.double()).abs().max() <= 1.01 * ROUNDING * wide.abs().max()
