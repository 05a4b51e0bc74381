"""A linear layer with a low-rank update beside its weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.functional import linear

from lab.methods.low_rank.factors import SCALE, Adapter, Factors

_NO_OFFSETS: Mapping[str, Tensor] = {}


class LowRankLinear(nn.Module):
    """Compute y = (W + offset + scale x B A) x + bias around a layer that itself is never changed."""

    def __init__(self, base: nn.Linear, factors: Factors, offset: Tensor | None) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.b = nn.Parameter(factors.b.clone(), requires_grad=False)
        self.a = nn.Parameter(factors.a.clone(), requires_grad=False)
        own = base.weight.detach()
        self.register_buffer("shifted", own if offset is None else own + offset, persistent=False)

    @property
    def weight(self) -> Tensor:
        """The weight without its update; model code looks at its dtype and device."""
        weight: Tensor = self.get_buffer("shifted")
        return weight

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out) for `x` (..., in)."""
        return linear(x, self.weight, self.base.bias) + SCALE * linear(linear(x, self.a), self.b)

    def factors(self) -> Factors:
        """Return a copy of the factors as they are now."""
        return Factors(b=self.b.detach().clone(), a=self.a.detach().clone())


@contextmanager
def attached(
    model: nn.Module, adapter: Adapter, offsets: Mapping[str, Tensor] = _NO_OFFSETS
) -> Iterator[dict[str, LowRankLinear]]:
    """Put layers with these factors into the model, everything frozen; take them out again at the end."""
    model.requires_grad_(False)
    layers: dict[str, LowRankLinear] = {}
    try:
        for name, factors in adapter.items():
            base = model.get_submodule(name)
            if not isinstance(base, nn.Linear):
                raise TypeError(f"{name} is no linear layer")
            layers[name] = LowRankLinear(base, factors, offsets.get(name))
            model.set_submodule(name, layers[name])
        yield layers
    finally:
        for name, layer in layers.items():
            model.set_submodule(name, layer.base)


def shift(offsets: Mapping[str, Tensor], name: str, by: Tensor) -> Tensor:
    """Return a matrix's offset with another one added in float64."""
    return (offsets[name].double() + by).float() if name in offsets else by.float()


def trained(layers: Mapping[str, LowRankLinear], *, b: bool, a: bool) -> tuple[nn.Parameter, ...]:
    """Return the factors that are to be trained, made ready for it."""
    chosen = tuple(p for layer in layers.values() for p, wanted in ((layer.b, b), (layer.a, a)) if wanted)
    for parameter in chosen:
        parameter.requires_grad_(True)
    return chosen
