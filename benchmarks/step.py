"""One training step of ours against PEFT LoRA's with as many trained numbers, on the same model and batch.

All variants live in one process and step in turn; figures are medians of the ratios of one turn. A step is the
product's own (`edge_agent.training.trainer.take_step`): forward, loss, backward, check for NaN, AdamW.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import click
import torch
from torch.optim import AdamW

from benchmarks.results import publish, say
from benchmarks.step_models import BERT_BASE, MINILM, MINILM_SHORT, QUERY_VALUE, Case, NoiseClassifier, plan_for
from benchmarks.step_rivals import FORMS, later_state, top_quarter
from edge_agent.training.lower_part import LowerPart, layers_below
from edge_agent.training.trainer import take_step
from ravan.adapters.model import inject
from ravan.tasks.batch import Batch

_ROOM = 1 << 30


@dataclass
class Variant:
    """One way to train a model, and what its steps took."""

    name: str
    step: Callable[[], None]
    trained: int = 0
    """Numbers that are trained."""
    keeps: bool = False
    """Whether the lower layers' outputs are kept from step to step."""
    seconds: list[float] = field(default_factory=list)

    def run(self) -> None:
        """Take one step and time it."""
        started = time.perf_counter()
        self.step()
        self.seconds.append(time.perf_counter() - started)


def training(name: str, task: NoiseClassifier, batch: Batch, lower: LowerPart | None = None) -> Variant:
    """Return a variant that trains whatever in the model asks for gradients."""
    parameters = [p for p in task.model.parameters() if p.requires_grad]
    optimiser = AdamW(parameters, lr=1e-4, weight_decay=0.0)
    return Variant(name, lambda: take_step(task, optimiser, batch, lower=lower), sum(p.numel() for p in parameters))


def quarter_cached(case: Case) -> Variant:
    """Return the quarter as it trains from the second pass over the data on, with its lower layers' outputs at hand."""
    model = case.build()
    task, plan = NoiseClassifier(model, case), plan_for(model, case, QUERY_VALUE)
    trained = top_quarter(plan)
    inject(model, plan, later_state(plan), trained)
    lower = LowerPart(task, layers_below(model, plan, trained), case.batch_size, _ROOM)
    variant = training("quarter cached", task, case.batch(), lower)
    variant.step()
    variant.keeps = lower.kept == case.batch_size
    if not variant.keeps:
        # An agent on such a machine keeps none either, so its steps are what they would be without.
        say("  the outputs of the lower layers depend on the place in the batch on this processor: none are kept.")
    return variant


def forward_alone(case: Case) -> Variant:
    """Return a variant that computes the outputs of the base model and nothing else."""
    model, batch = case.build().requires_grad_(False), case.batch()

    @torch.no_grad()
    def step() -> None:
        model(**batch.inputs)

    return Variant("forward", step)


def variants(case: Case) -> list[Variant]:
    """Return all ways to train one case, and the forward pass alone."""
    batch = case.batch()
    rivals = [training(name, NoiseClassifier(form(case.build(), case), case), batch) for name, form in FORMS.items()]
    return [*rivals, quarter_cached(case), forward_alone(case)]


def measure(case: Case, repeats: int) -> dict[str, float]:
    """Return the medians of one case as ratios to LoRA's, all linears to LoRA's on all linears."""
    say(f"{case.name}: building the variants ...")
    rivals = variants(case)
    for variant in rivals:
        for _ in range(2):
            variant.step()
    for number in range(1, repeats + 1):
        for variant in rivals:
            variant.run()
        say(f"  {number}/{repeats}: " + ", ".join(f"{v.name} {1000 * v.seconds[-1]:.0f}" for v in rivals) + " ms")
    took = {variant.name: variant.seconds for variant in rivals}
    counts = {variant.name: variant.trained for variant in rivals}
    ratios = {name: _ratio(seconds, took["lora"]) for name, seconds in took.items() if "all" not in name}
    ratios["all linears"] = _ratio(took["full, all linears"], took["lora, all linears"])
    lora_ms = round(1000 * median(took["lora"]), 1)
    facts = {"lora_ms": lora_ms, "lora_trained": counts["lora"], "full_trained": counts["full"]}
    return {**ratios, **facts, "lower_layers_kept": any(variant.keeps for variant in rivals)}


def _ratio(seconds: Sequence[float], of: Sequence[float]) -> float:
    # Turn by turn, so that a minute in which the machine does other work bears on both.
    return round(median(ours / theirs for ours, theirs in zip(seconds, of, strict=True)), 3)


@click.command()
@click.option("--repeats", default=11, show_default=True, help="Steps of each variant; medians are reported.")
@click.option("--threads", default=2, show_default=True, help="Threads of the tensor library.")
def main(repeats: int, threads: int) -> None:
    """Compare training steps."""
    torch.set_num_threads(threads)
    cases = {case.name: measure(case, repeats) for case in (MINILM, BERT_BASE, MINILM_SHORT)}
    long = [cases[MINILM.name], cases[BERT_BASE.name]]
    publish(
        "bench-step",
        {
            "ratio_full": max(case["full"] for case in long),
            "ratio_full_short": cases[MINILM_SHORT.name]["full"],
            "ratio_quarter": max(case["quarter"] for case in long),
            "ratio_quarter_cached": max(case["quarter cached"] for case in long),
            "forward_floor": max(case["forward"] for case in long),
            "ratio_all_linears": max(case["all linears"] for case in long),
            "bars": {"ratio_full": 1.05, "ratio_full_short": 1.15, "ratio_quarter": 0.72, "ratio_quarter_cached": 0.35},
            "cases": cases,
        },
    )


if __name__ == "__main__":
    main()
