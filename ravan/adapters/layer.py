"""One linear layer with Ravan heads: trained ones beside the weight, the others folded into a copy of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ravan.adapters import algebra
from ravan.adapters.arithmetic import Path, adapted_linear
from ravan.adapters.basis import Basis
from ravan.errors import ErrorReason, ModelError


class RavanLinear(nn.Module):
    """Compute y = (W + sum_i s_i B_i H_i A_i) x + bias around an `nn.Linear` that itself is never changed.

    Trained heads run on the cheaper of two paths; untrained ones are in a folded copy of W, so they cost nothing
    per step. For a round one instance is made and dropped again, which is what resets s_i to 1.
    """

    columns: Tensor
    rows: Tensor
    folded: Tensor | None

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        if base.weight.dtype is not torch.float32:
            raise ModelError(
                f"A layer's weight is {base.weight.dtype}, but heads fold into float32 only.",
                reason=ErrorReason.MODEL_INVALID,
                next_step="Convert the base model to float32 and add it again.",
            )
        self.base = base.requires_grad_(False)
        self.trained: tuple[int, ...] = ()
        self.path: Path | None = None
        """Overrides the choice of path by shape."""
        self.cores: nn.Parameter | None = None
        self.scales: nn.Parameter | None = None
        self.register_buffer("folded", None, persistent=False)

    def load_heads(self, basis: Basis, products: Tensor, trained: tuple[int, ...], *, train_scales: bool) -> None:
        """Take the global products (h, r, r): fold the heads that are not in `trained`, make the others trainable."""
        b, a = torch.from_numpy(basis.b), torch.from_numpy(basis.a)
        rest = [i for i in range(len(products)) if i not in trained and bool(products[i].any())]
        if rest:
            self.folded = algebra.merge(self.base.weight.detach(), b[rest], a[rest], products[rest])
        if trained:
            chosen = list(trained)
            self.register_buffer("columns", algebra.stack_columns(b[chosen]), persistent=False)
            self.register_buffer("rows", algebra.stack_rows(a[chosen]), persistent=False)
            self.cores = nn.Parameter(products[chosen].clone())
            self.scales = nn.Parameter(torch.ones(len(chosen)), requires_grad=train_scales)
        self.trained = trained

    @property
    def products(self) -> Tensor:
        """The trained heads' s_i H_i, shape (k, r, r)."""
        if self.cores is None or self.scales is None:
            raise ValueError("no head of this layer is trained")
        return self.scales[:, None, None] * self.cores

    @property
    def weight(self) -> Tensor:
        """The weight without the trained heads; model code looks at its dtype and device."""
        return self.base.weight if self.folded is None else self.folded

    @property
    def bias(self) -> nn.Parameter | None:
        """The base layer's bias."""
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out) for `x` (..., in)."""
        if self.cores is None:
            return linear(x, self.weight, self.base.bias)
        return adapted_linear(x, self.weight, self.base.bias, self.columns, self.rows, self.products, self.path)
