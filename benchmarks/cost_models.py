"""The families of the cost benchmark, each with one shape of batch: texts, images, a causal model's tokens, series.

All but MiniLM have random weights: neither memory nor time depends on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    PatchTSTForClassification,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from benchmarks.step_models import CLASSES, QUERY_VALUE, VOCABULARY, Case, minilm
from deploy.examples.engines import CHANNELS, WINDOW, patchtst_config

_SIDE: Final = 112


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One model, and which of its layers a job adapts."""

    case: Case
    targets: tuple[str, ...]
    layers: int


class FixedInputs(nn.Module):
    """Take a batch of tokens and classify as many inputs of the model's own kind."""

    def __init__(self, model: nn.Module, draw: Callable[[int], dict[str, Tensor]]) -> None:
        """Take what draws so many inputs, by the names of the model's arguments."""
        super().__init__()
        self.model = model
        self.config = model.config
        self.base_model_prefix = f"model.{model.base_model_prefix}"
        self._draw = draw

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SequenceClassifierOutput:  # noqa: ARG002
        """Return logits (batch, classes)."""
        outputs: Any = self.model(**self._draw(len(input_ids)))
        name = "prediction_logits" if "prediction_logits" in outputs else "logits"
        return SequenceClassifierOutput(logits=outputs[name])


def _vit() -> nn.Module:
    config = AutoConfig.for_model(
        "dinov2",
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=6,
        image_size=518,
        patch_size=14,
        num_labels=CLASSES,
    )
    model = AutoModelForImageClassification.from_config(config).eval()  # type: ignore[no-untyped-call]
    return FixedInputs(model, lambda size: {"pixel_values": torch.randn(size, 3, _SIDE, _SIDE)})


def _smollm() -> nn.Module:
    """Build SmolLM2-135M's shape with a fifth of its layers and BERT's vocabulary."""
    config = AutoConfig.for_model(
        "llama",
        vocab_size=VOCABULARY,
        hidden_size=576,
        num_hidden_layers=6,
        num_attention_heads=9,
        num_key_value_heads=3,
        intermediate_size=1536,
        num_labels=CLASSES,
        pad_token_id=0,
    )
    model: nn.Module = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
    return model.eval()


def _patchtst() -> nn.Module:
    config = patchtst_config(num_targets=CLASSES)
    model = PatchTSTForClassification(config).eval()  # type: ignore[no-untyped-call]
    return FixedInputs(model, lambda size: {"past_values": torch.randn(size, WINDOW, len(CHANNELS))})


FAMILIES: Final[Mapping[str, Family]] = {
    "minilm": Family(case=Case(name="minilm", build=minilm, batch_size=16, tokens=64), targets=QUERY_VALUE, layers=6),
    "vit": Family(case=Case(name="vit", build=_vit, batch_size=8, tokens=1), targets=("all",), layers=12),
    "smollm": Family(case=Case(name="smollm", build=_smollm, batch_size=8, tokens=64), targets=("all",), layers=6),
    "patchtst": Family(
        case=Case(name="patchtst", build=_patchtst, batch_size=64, tokens=1), targets=("attention",), layers=3
    ),
}
