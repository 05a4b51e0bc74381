"""The PEFT export, read back by PEFT itself, against the injected model's logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_plans import DRAWN_KINDS, plan_for, random_state, settings_for
from peft import PeftModel
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from deploy.demo.work_orders import installed_model
from ravan.adapters.export import export_peft
from ravan.adapters.model import find_linears, inject
from ravan.adapters.state import FloatArray, ModelState
from ravan.errors import ConfigError, ErrorReason
from ravan.ids import BlockId, BlockKind
from ravan.manifest.plan import BasisKind, JobPlan

LABELS = 3

# PEFT 0.21 still reads a name that transformers 5 is retiring.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


TINY: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
}


def save_base(folder: Path, family: str = "bert") -> Path:
    """A small random base model without a classifier of this task, as a job would find it."""
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model(family, **TINY)).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


def strong_state(plan: JobPlan, seed: int) -> dict[BlockId, FloatArray]:
    """Heads large enough for a tiny model's logits to depend on them visibly."""
    return {b: a * (30 if b.kind is BlockKind.HEAD else 1) for b, a in random_state(plan, seed).items()}


def load_classifier(base: Path) -> nn.Module:
    model: nn.Module = AutoModelForSequenceClassification.from_pretrained(base, num_labels=LABELS)
    return model.eval()


def plan_of(base: Path, kind: BasisKind = BasisKind.GRAM_SCHMIDT, heads: int = 3, rank: int = 5) -> JobPlan:
    model = load_classifier(base)
    dense = [(name, tuple(p.shape)) for name, p in model.named_parameters() if name.startswith("classifier.")]
    return plan_for(find_linears(model, ["query", "value"]), settings_for(heads, rank, kind), dense)


def logits(model: nn.Module, ids: Tensor) -> Tensor:
    with torch.no_grad():
        output: Tensor = model(input_ids=ids).logits
    return output


def compare(base: Path, plan: JobPlan, state: ModelState, out: Path) -> None:
    """The exported adapter on a fresh base gives the injected model's logits to 1e-5, and not the base's."""
    ids = torch.randint(3, 50, (4, 9), generator=torch.Generator().manual_seed(5))
    ours = load_classifier(base)
    inject(ours, plan, state, frozenset(plan.dense_ids()))
    expected = logits(ours, ids)
    export_peft(plan, state, out, str(base))
    fresh = load_classifier(base)
    plain = logits(fresh, ids)
    theirs = PeftModel.from_pretrained(fresh, out).eval()
    torch.testing.assert_close(logits(theirs, ids), expected, atol=1e-5, rtol=0)
    assert (plain - expected).abs().max() > 1e-2
    if plan.dense:
        no_heads = {b: a * 0 if b.kind is BlockKind.HEAD else a for b, a in state.items()}
        inject(ours, plan, no_heads, frozenset())
        assert (logits(ours, ids) - expected).abs().max() > 1e-3, "the heads do not show in these logits"


@pytest.mark.parametrize("kind", DRAWN_KINDS)
def test_peft_gives_the_same_logits(tmp_path: Path, kind: BasisKind) -> None:
    base = save_base(tmp_path / "base")
    plan = plan_of(base, kind)
    compare(base, plan, strong_state(plan, 1), tmp_path / "adapter")


def test_classifier_of_two_layers_is_saved_whole(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "roberta")
    plan = plan_of(base)
    assert len(plan.dense) == 4
    compare(base, plan, strong_state(plan, 2), tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["task_type"], config["modules_to_save"]) == ("SEQ_CLS", ["classifier"])


def test_job_without_dense_blocks_loads_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model("bert", **TINY, num_labels=LABELS))  # type: ignore[no-untyped-call]
    model.save_pretrained(tmp_path / "base")
    plan = plan_for(find_linears(model, ["query", "value"]), settings_for(3, 5))
    compare(tmp_path / "base", plan, strong_state(plan, 3), tmp_path / "adapter")


def test_peft_gives_the_same_logits_on_the_real_minilm(tmp_path: Path) -> None:
    base = installed_model()
    plan = plan_of(base, heads=4, rank=39)
    assert len(plan.matrices) == 12
    state = random_state(plan, 4)
    compare(base, plan, state, tmp_path / "adapter")


def test_config_says_what_a_reader_needs(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    plan = plan_of(base)
    export_peft(plan, strong_state(plan, 1), tmp_path / "adapter", "factory/minilm")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["r"] == config["lora_alpha"] == 15
    assert config["base_model_name_or_path"] == "factory/minilm"
    assert config["target_modules"] == [matrix.name for matrix in plan.matrices]
    assert config["modules_to_save"] == ["classifier"]


def test_job_without_heads_has_no_adapter_to_export(tmp_path: Path) -> None:
    plan = plan_for([], settings_for(0, 1), [("classifier.weight", (3, 8))])
    with pytest.raises(ConfigError, match="no heads") as refused:
        export_peft(plan, random_state(plan, 0), tmp_path / "adapter", "base")
    assert refused.value.reason is ErrorReason.CONFIG_INVALID
    assert not (tmp_path / "adapter").exists()
