"""One linear layer with Ravan heads: trained ones beside the weight, the others folded into a copy of it.

Nothing is folded into a weight in bfloat16 or int8, which would round small products away: there all heads that are
not zero run beside the weight, on bases rounded to bfloat16, which are the same numbers at every site.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ravan.adapters import algebra
from ravan.adapters.arithmetic import Path, adapted_linear, turned_rows
from ravan.adapters.basis import Basis
from ravan.adapters.int8 import Int8Linear
from ravan.adapters.narrow import ACTIVATIONS, NarrowWeight, SideHeads, narrow_linear, plain_linear
from ravan.errors import ErrorReason, ModelError

BaseLinear = nn.Linear | Int8Linear
"""What can have heads."""


class RavanLinear(nn.Module):
    """Compute y = (W + sum_i s_i B_i H_i A_i) x + bias around a linear layer that itself is never changed.

    Trained heads run on the cheaper of two paths; untrained ones are in a folded copy of a float32 W, so they cost
    nothing per step. For a round one instance is made and dropped again, which is what resets s_i to 1.
    """

    columns: Tensor | None
    rows: Tensor | None
    folded: Tensor | None
    resting: Tensor | None

    def __init__(self, base: BaseLinear) -> None:
        """Take the layer; raise ModelError when its weight is neither float32, bfloat16 nor int8."""
        super().__init__()
        if isinstance(base, nn.Linear) and base.weight.dtype not in (torch.float32, torch.bfloat16):
            raise ModelError(
                f"A layer's weight is {base.weight.dtype}, which heads cannot be put beside.",
                reason=ErrorReason.MODEL_INVALID,
                next_step="Convert the base model to float32 and add it again; [model] precision can narrow it later.",
            )
        self.base = base.requires_grad_(False)
        self.trained: tuple[int, ...] = ()
        self.path: Path | None = None
        """Overrides the choice of path by shape."""
        self.cores: nn.Parameter | None = None
        self.scales: nn.Parameter | None = None
        for name in ("columns", "rows", "folded", "resting"):
            self.register_buffer(name, None, persistent=False)

    def load_heads(self, basis: Basis, products: Tensor, trained: tuple[int, ...], *, train_scales: bool) -> None:
        """Take the global products (h, r, r): make the heads in `trained` trainable, let the others only count."""
        b, a = torch.from_numpy(basis.b), torch.from_numpy(basis.a)
        chosen = list(trained)
        rest = [i for i in range(len(products)) if i not in trained and bool(products[i].any())]
        if self._narrow is not None:
            self._hold_bases(b, a, chosen + rest, ACTIVATIONS)
            self.resting = products[rest]
        else:
            self._hold_bases(b, a, chosen, torch.float32)
            if rest:
                self.folded = algebra.merge(self.base.weight.detach(), b[rest], a[rest], products[rest])
        if trained:
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
        """The weight without the heads that run beside it; model code looks at its dtype and device."""
        return self.base.weight if self.folded is None else self.folded

    @property
    def bias(self) -> Tensor | None:
        """The base layer's bias."""
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out) for `x` (..., in), in the type of the weight, bfloat16 for int8."""
        narrow = self._narrow
        if narrow is not None:
            return narrow_linear(x, narrow, self.bias, self._side_heads(), self.path).to(ACTIVATIONS)
        if self.columns is None or self.rows is None:
            return linear(x, self.weight, self.bias)
        return adapted_linear(x, self.weight, self.bias, self.columns, self.rows, self.products, self.path)

    def merged(self) -> nn.Linear:
        """Return a plain float32 layer with every untrained head in its weight, which shares nothing with the base."""
        narrow, bias = self._narrow, self.bias
        weight = self.weight.detach().clone() if narrow is None else narrow.widen()
        if narrow is not None and self.columns is not None and self.rows is not None and self.resting is not None:
            weight.addmm_(self.columns.float(), turned_rows(self.rows.float(), self.resting))
        return plain_linear(weight, None if bias is None else bias.detach().float().clone())

    @property
    def _narrow(self) -> NarrowWeight | None:
        """The weight as it is stored, where that is narrower than float32."""
        if isinstance(self.base, Int8Linear):
            return NarrowWeight(numbers=self.base.numbers, scales=self.base.scales)
        weight = self.base.weight.detach()
        return None if weight.dtype is torch.float32 else NarrowWeight(numbers=weight)

    def _hold_bases(self, b: Tensor, a: Tensor, heads: list[int], dtype: torch.dtype) -> None:
        if heads:
            self.columns = algebra.stack_columns(b[heads]).to(dtype)
            self.rows = algebra.stack_rows(a[heads]).to(dtype)

    def _side_heads(self) -> SideHeads | None:
        if self.columns is None or self.rows is None or self.resting is None:
            return None
        trained = None if self.cores is None else self.products
        return SideHeads(columns=self.columns, rows=self.rows, trained=trained, resting=self.resting)
