"""Targets by role, over the library's own models of every type that has roles, and by the ends of names."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from ravan.adapters.model import find_linears
from ravan.adapters.targets import FAMILIES_WITH_ROLES, Role, match_targets
from ravan.errors import ConfigError, ErrorReason

BLOCK = re.compile(r"\b(layers?|block)\.\d+\.")
ATTENTION = re.compile(r"\b(attention|attn|self_attn)\b")


def library_model(model_type: str) -> nn.Module:
    """As the library builds it by default, without memory for its weights."""
    with torch.device("meta"):
        model: nn.Module = AutoModel.from_config(AutoConfig.for_model(model_type, num_hidden_layers=2))  # type: ignore[no-untyped-call]
    return model


def names(model: nn.Module, *targets: str) -> set[str]:
    return {name for name, *_ in find_linears(model, targets)}


@pytest.mark.parametrize("model_type", sorted(FAMILIES_WITH_ROLES))
def test_roles_divide_the_linear_layers_of_all_blocks(model_type: str) -> None:
    """The library keeps attention in modules of that name; whatever else is in a block is feed-forward."""
    model = library_model(model_type)
    linears = {name for name, module in model.named_modules() if type(module) is nn.Linear}
    blocks = {name for name in linears if BLOCK.search(name)}
    attention = {name for name in blocks if ATTENTION.search(name)}
    assert names(model, "attention") == attention
    assert names(model, "mlp") == blocks - attention
    assert names(model, "all") == blocks
    assert len(attention) >= 8
    assert len(blocks - attention) >= 4


def test_large_dinov2_has_gated_layers() -> None:
    with torch.device("meta"):
        config = AutoConfig.for_model("dinov2", num_hidden_layers=1, use_swiglu_ffn=True)
        model: nn.Module = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    assert names(model, "mlp") == {f"encoder.layer.0.mlp.{part}_proj" for part in ("gate", "up", "down")}


def test_roles_and_names_may_be_mixed() -> None:
    found = match_targets(["layers.0.self_attn.q_proj", "layers.0.mlp.up_proj", "score"], "llama", ["mlp", "score"])
    assert found == {"layers.0.mlp.up_proj", "score"}


def test_role_in_an_unknown_model_is_refused_and_names_are_not() -> None:
    layers = ["block.0.mixer.in", "block.0.mixer.out"]
    with pytest.raises(ConfigError, match=r"'novel' model .* called in, out\.") as refused:
        match_targets(layers, "novel", ["attention"])
    assert refused.value.reason is ErrorReason.CONFIG_INVALID
    assert "instead of a role" in refused.value.next_step
    assert match_targets(layers, "novel", ["mixer.in"]) == {"block.0.mixer.in"}


def test_role_that_matches_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="no linear layer mlp; its linear layers are called query") as refused:
        match_targets(["layer.0.attention.self.query"], "bert", ["attention", "mlp"])
    assert all(role in refused.value.next_step for role in Role)
