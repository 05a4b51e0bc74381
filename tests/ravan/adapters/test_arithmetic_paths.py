"""Both paths of a layer's arithmetic against the naive sum over heads and against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kept_tensors import kept_for_backward
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ravan.adapters.algebra import stack_columns, stack_rows
from ravan.adapters.arithmetic import Path, Shape, adapted_linear, choose_path

PATHS = list(Path)


class Case:
    """Random operands of one layer."""

    def __init__(
        self,
        tokens: tuple[int, ...] = (5,),
        out: int = 7,
        inputs: int = 6,
        heads: int = 3,
        rank: int = 2,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        generator = torch.Generator().manual_seed(3)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        self.weight, self.bias = draw(out, inputs), draw(out)
        self.b, self.a = draw(heads, out, rank), draw(heads, rank, inputs)
        self.columns, self.rows = stack_columns(self.b), stack_rows(self.a)
        self.x = draw(*tokens, inputs).requires_grad_()
        self.products = draw(heads, rank, rank).requires_grad_()

    def naive(self, x: Tensor | None = None, products: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        x = self.x if x is None else x
        products = self.products if products is None else products
        y = x @ self.weight.T + (self.bias if bias is None else bias)
        for b, p, a in zip(self.b, products, self.a, strict=True):
            y = y + x @ (b @ p @ a).T
        return y

    def ours(
        self, path: Path | None, x: Tensor | None = None, products: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        return adapted_linear(
            self.x if x is None else x,
            self.weight,
            self.bias if bias is None else bias,
            self.columns,
            self.rows,
            self.products if products is None else products,
            path,
        )


SHAPES = [
    {"tokens": (5,)},
    {"tokens": (2, 3)},
    {"tokens": (1,), "out": 3, "inputs": 11},
    # so many tokens that the core gradient goes by way of the gradient of W_eff
    {"tokens": (4, 9), "out": 4, "inputs": 4, "heads": 4, "rank": 3},
    {"heads": 1, "rank": 1},
    # so many that the merged weight is made again for the backward pass
    {"tokens": (9, 9), "heads": 2, "rank": 1},
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_are_those_of_the_naive_sum(path: Path, shape: dict[str, int]) -> None:
    case = Case(**shape)  # type: ignore[arg-type]
    bias = case.bias.clone().requires_grad_()
    probe = torch.randn(*case.naive().shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    wanted = case.naive(bias=bias)
    expected = torch.autograd.grad((wanted * probe).sum(), (case.x, case.products, bias))
    found = case.ours(path, bias=bias)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    for mine, theirs in zip(
        torch.autograd.grad((found * probe).sum(), (case.x, case.products, bias)), expected, strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_pass_gradcheck_in_double_precision(path: Path, shape: dict[str, int]) -> None:
    case = Case(**shape)  # type: ignore[arg-type]
    function: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda x, p, b: case.ours(path, x, p, b)  # noqa: E731
    inputs = (case.x, case.products, case.bias.clone().requires_grad_())
    assert torch.autograd.gradcheck(function, inputs, atol=1e-8)


@pytest.mark.parametrize("path", PATHS)
def test_only_what_needs_a_gradient_gets_one(path: Path) -> None:
    case = Case()
    fixed = case.x.detach()
    torch.autograd.grad(case.ours(path, x=fixed).sum(), case.products)
    assert not fixed.requires_grad
    torch.autograd.grad(case.ours(path, products=case.products.detach()).sum(), case.x)
    with torch.no_grad():
        assert not case.ours(path).requires_grad


@pytest.mark.parametrize("path", PATHS)
def test_activation_checkpointing_gives_the_same_gradients(path: Path) -> None:
    case = Case()
    plain = torch.autograd.grad(case.ours(path).square().sum(), (case.x, case.products))
    again = checkpoint(lambda x, p: case.ours(path, x, p), case.x, case.products, use_reentrant=False)
    for mine, theirs in zip(torch.autograd.grad(again.square().sum(), (case.x, case.products)), plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.06)])
def test_narrow_types_stay_near_the_double_result(path: Path, dtype: torch.dtype, tolerance: float) -> None:
    case, exact = Case(dtype=dtype), Case()
    found = case.ours(path)
    assert found.dtype is dtype
    scale = exact.naive().abs().max()
    assert (found.double() - exact.naive()).abs().max() <= tolerance * scale
    (mine,) = torch.autograd.grad(found.sum(), case.products)
    (theirs,) = torch.autograd.grad(exact.naive().sum(), exact.products)
    assert (mine.double() - theirs).abs().max() <= tolerance * theirs.abs().max()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("path", PATHS)
def test_a_gpu_gives_the_same(path: Path) -> None:
    case = Case()
    for name in ("weight", "bias", "b", "a", "columns", "rows", "x", "products"):
        setattr(case, name, getattr(case, name).cuda())
    torch.testing.assert_close(case.ours(path), case.naive())


def storages(tensors: Iterable[Tensor]) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in tensors}


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_kept_but_the_input_where_merging_again_is_cheap(path: Path) -> None:
    case = Case(tokens=(50,), heads=1, rank=1)
    operands = (case.weight, case.columns, case.rows, case.products)
    own = [t for t in kept_for_backward(lambda: case.ours(path)) if not storages([t]) <= storages(operands)]
    assert storages(own) == storages([case.x])


def test_the_merged_weight_is_kept_where_merging_again_would_be_dear() -> None:
    case = Case(tokens=(5,), heads=2)
    merged = case.naive(x=torch.eye(6, dtype=torch.float64), bias=torch.zeros(7, dtype=torch.float64)).T

    def is_merged(tensor: Tensor) -> bool:
        return tensor.shape == merged.shape and torch.allclose(tensor, merged)

    assert any(is_merged(tensor) for tensor in kept_for_backward(lambda: case.ours(Path.MERGED)))
    # Without a gradient for x, as in the lowest trained layer, it would serve nothing.
    fixed = case.x.detach()
    assert not any(is_merged(tensor) for tensor in kept_for_backward(lambda: case.ours(Path.MERGED, x=fixed)))


def test_short_texts_on_wide_layers_go_per_token_and_batches_are_merged() -> None:
    assert choose_path(Shape(tokens=8, out_features=4096, in_features=4096, heads=4, rank=64)) is Path.PER_TOKEN
    assert choose_path(Shape(tokens=384, out_features=384, in_features=384, heads=4, rank=39)) is Path.MERGED


@pytest.mark.parametrize("tokens", [27, 28])
def test_merging_again_may_take_a_quarter_of_one_product(tokens: int) -> None:
    # By hand: h r in (r + out) = 2 * 3 * 10 * (3 + 20) multiplications merge, tokens * in * out = 200 a token multiply.
    shape = Shape(tokens=tokens, out_features=20, in_features=10, heads=2, rank=3)
    assert shape.merges_again == (tokens * 200 * 0.25 >= 1380)


@given(*(st.integers(1, 64) for _ in range(5)))
def test_the_choice_is_the_smaller_count_of_multiplications(t: int, o: int, i: int, h: int, r: int) -> None:
    shape = Shape(t, o, i, h, r)
    # Beside what both do: W_eff = W + B (P A) once, against down, turn and up for each token, forward and backward.
    merged = h * r * r * i + o * h * r * i
    per_token = 2 * t * (i * h * r + h * r * r + h * r * o)
    assert (choose_path(shape) is Path.MERGED) == (merged < per_token)
