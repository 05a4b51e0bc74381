"""The models of the step and memory benchmarks: MiniLM with its real weights, BERT-base's shape with random ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Never

from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from deploy.demo.work_orders import installed_model
from ravan.adapters.budget import rank_for_budget
from ravan.adapters.model import find_linears
from ravan.ids import Digest, JobId, RunId
from ravan.manifest.plan import (
    AdapterSettings,
    BasisKind,
    Denominator,
    DenseParameter,
    JobPlan,
    Matrix,
    Optimiser,
    Task,
    TrainingSettings,
)
from ravan.tasks.base_model import BaseModel, load_base_model
from ravan.tasks.batch import Batch
from ravan.tasks.task_model import EncodedExamples, TaskModel
from ravan.tasks.texts import noisy_texts

CLASSES: Final = 9
VOCABULARY: Final = 30522
LORA_RANK: Final = 8
HEADS: Final = 4
QUERY_VALUE: Final = ("query", "value")
ALL_LINEARS: Final = ("query", "key", "value", "dense")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One model with one shape of batch."""

    name: str
    build: Callable[[], nn.Module]
    batch_size: int
    tokens: int

    @property
    def training(self) -> TrainingSettings:
        """Return the settings of a job with such batches."""
        return TrainingSettings(
            task=Task.SEQUENCE_CLASSIFICATION,
            data="bench",
            labels=tuple(map(str, range(CLASSES))),
            max_length=self.tokens,
            batch_size=self.batch_size,
            steps=1,
            optimiser=Optimiser.ADAMW,
            learning_rate=1e-4,
            dense_learning_rate=1e-4,
            weight_decay=0.0,
        )

    def batch(self) -> Batch:
        """Return a full batch of random tokens."""
        return noisy_texts(self.batch_size, self.tokens, VOCABULARY, CLASSES)


class NoiseClassifier(TaskModel[Never]):
    """A model in any form, PEFT's too, as the product's steps take it; there is nothing but noise to learn from."""

    def __init__(self, model: nn.Module, case: Case) -> None:
        super().__init__(BaseModel(model=model, new_parameters=(), folder=Path()), case.training)
        self._case = case

    def encode(self, examples: Never) -> EncodedExamples:
        """Return what cannot be given: no case has examples."""
        return examples

    def worst_case(self, batch_size: int, data: EncodedExamples) -> Batch:  # noqa: ARG002 - there is none
        """Return random tokens."""
        return noisy_texts(batch_size, self._case.tokens, VOCABULARY, CLASSES)


def minilm() -> nn.Module:
    """Load MiniLM-L6 as the product does."""
    model: nn.Module = load_base_model(AutoModelForSequenceClassification, installed_model(), num_labels=CLASSES).model
    return model


def bert_base() -> nn.Module:
    """Build a classifier of BERT-base's shape; its speed does not depend on its numbers."""
    config = AutoConfig.for_model("bert", vocab_size=VOCABULARY, num_labels=CLASSES)
    model: nn.Module = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
    return model.eval()


MINILM: Final = Case(name="minilm 32x64", build=minilm, batch_size=32, tokens=64)
BERT_BASE: Final = Case(name="bert-base 8x128", build=bert_base, batch_size=8, tokens=128)
MINILM_SHORT: Final = Case(name="minilm 32x12", build=minilm, batch_size=32, tokens=12)


def plan_for(model: nn.Module, case: Case, targets: tuple[str, ...]) -> JobPlan:
    """Return a plan with the heads that LoRA's budget allows, and the classifier trained whole as PEFT does."""
    linears = find_linears(model, targets)
    base = f"{model.base_model_prefix}."
    dense = [(name, tuple(p.shape)) for name, p in model.named_parameters() if not name.startswith(base)]
    ranks = [rank_for_budget(out, inputs, LORA_RANK, HEADS) for _, out, inputs in linears]
    return JobPlan(
        run_id=RunId(bytes(16)),
        job_id=JobId("bench"),
        job_name="bench",
        model_name=case.name,
        model_files=(),
        adapter=AdapterSettings(heads=HEADS, rank=max(ranks), basis=BasisKind.GRAM_SCHMIDT, seed=os.urandom(32)),
        matrices=tuple(
            Matrix(
                ordinal=i,
                name=name,
                out_features=out,
                in_features=inputs,
                basis_digest=Digest(bytes(32)),
                rank=ranks[i],
            )
            for i, (name, out, inputs) in enumerate(linears)
        ),
        dense=tuple(DenseParameter(ordinal=i, name=name, shape=shape) for i, (name, shape) in enumerate(dense)),
        training=case.training,
        denominator=Denominator.TRAINERS,
    )
