"""Tiny random models of all families, each with an input, the linear names of its family and its new parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    PatchTSTForClassification,
)


@dataclass(frozen=True)
class Family:
    """A model family under test."""

    build: Callable[[], nn.Module]
    inputs: Callable[[], dict[str, Tensor]]
    targets: tuple[str, ...]
    linears: int
    """How many layers `targets` must find."""
    output: str
    dense: str
    """Module that a job trains whole; empty when the family has none."""


TRANSFORMER = {"hidden_size": 16, "num_hidden_layers": 2, "num_labels": 3}

GROUPED = {"vocab_size": 40, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 24}
"""Two queries share a key and a value, whose projections are so not square."""

PATCHES = {
    "num_input_channels": 3,
    "context_length": 16,
    "patch_length": 4,
    "patch_stride": 4,
    "d_model": 16,
    "num_attention_heads": 2,
    "ffn_dim": 24,
    "num_hidden_layers": 2,
    "norm_type": "layernorm",
    "scaling": None,
    "pooling_type": "mean",
    "num_targets": 3,
}


def _bert() -> nn.Module:
    config = AutoConfig.for_model("bert", **TRANSFORMER, vocab_size=40, num_attention_heads=2, intermediate_size=24)
    model: nn.Module = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
    return model


def _dinov2() -> nn.Module:
    config = AutoConfig.for_model("dinov2", **TRANSFORMER, num_attention_heads=2, mlp_ratio=2, image_size=28)
    model: nn.Module = AutoModelForImageClassification.from_config(config)  # type: ignore[no-untyped-call]
    return model


def _llama() -> nn.Module:
    config = AutoConfig.for_model("llama", **TRANSFORMER, **GROUPED, pad_token_id=0)
    model: nn.Module = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
    return model


def _smollm2() -> nn.Module:
    """Its output layer is its table of embeddings."""
    config = AutoConfig.for_model("llama", **TRANSFORMER, **GROUPED, tie_word_embeddings=True)
    model: nn.Module = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    return model


def _patchtst() -> nn.Module:
    model: nn.Module = PatchTSTForClassification(AutoConfig.for_model("patchtst", **PATCHES))  # type: ignore[arg-type]
    return model


def _tokens() -> dict[str, Tensor]:
    return {"input_ids": torch.arange(1, 15).reshape(2, 7), "attention_mask": torch.ones(2, 7, dtype=torch.long)}


LLAMA_LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

FAMILIES = {
    # Per layer query, key, value and three called dense, and the pooler's dense.
    "bert": Family(_bert, _tokens, ("query", "key", "value", "dense"), 2 * 6 + 1, "logits", "classifier"),
    "dinov2": Family(
        _dinov2,
        lambda: {"pixel_values": torch.randn(2, 3, 28, 28)},
        ("q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"),
        2 * 6,
        "logits",
        "classifier",
    ),
    "llama": Family(_llama, _tokens, LLAMA_LINEARS, 2 * 7, "logits", "score"),
    "smollm2": Family(_smollm2, _tokens, LLAMA_LINEARS, 2 * 7, "logits", ""),
    "patchtst": Family(
        _patchtst,
        lambda: {"past_values": torch.randn(2, 16, 3)},
        ("q_proj", "k_proj", "v_proj", "out_proj", "ff.0", "ff.3"),
        2 * 6,
        "prediction_logits",
        "head",
    ),
}


def build(name: str) -> nn.Module:
    """The family's model with fixed weights, in evaluation mode: no dropout."""
    torch.manual_seed(0)
    return FAMILIES[name].build().eval()


def run(name: str, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    output: Tensor = getattr(model(**inputs), FAMILIES[name].output)
    return output
