"""A report's tables in Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lab.report.comparison import Row
from lab.study.paired import Difference
from lab.study.plan import Plan


def write_tables(plan: Plan, rows: Sequence[Row]) -> str:
    """Return a heading and a table for each federation."""
    parts = [_describe(plan)]
    for federation in plan.federation:
        mine = [row for row in rows if row.federation == federation.name]
        shown = _table(plan, mine) + _at_the_edge(plan, mine) if mine else _say_nothing(plan)
        parts.append(f"## {federation.name}: {federation.settled()}\n\n{shown}")
    return "\n\n".join(parts) + "\n"


def _describe(plan: Plan) -> str:
    training = plan.training
    return (
        f"# {plan.study.name}\n\n{plan.study.task}; {training.rounds} rounds of {training.steps} steps on "
        f"{training.batch_size} examples; budget: LoRA of rank {training.lora_rank}; the classifier is trained by "
        f"every method at {training.dense_learning_rate:g}. Accuracy is the mean of the last {training.average_last} "
        f"rounds on the test examples, over up to {len(plan.study.seeds)} seeds; differences are paired by seed, "
        f"with Student's 95 % interval. {_describe_rates(plan)}"
    )


def _describe_rates(plan: Plan) -> str:
    if plan.tuning is None:
        return "Learning rates are given."
    tuned = [method.name for method in plan.tuned_methods()]
    search = "a search" if len(plan.tuning.rungs) == 1 else "successive halving"
    return (
        f"Learning rates of {', '.join(tuned)}: {search} over {', '.join(f'{rate:g}' for rate in plan.tuning.rates)} "
        f"on {' / '.join(map(str, plan.tuning.rungs))} rounds, by validation, seeds "
        f"{', '.join(map(str, plan.tuning.seeds))}."
    )


def _at_the_edge(plan: Plan, rows: Sequence[Row]) -> str:
    """Return a sentence about the methods for which a rate beyond the grid might have been better still."""
    if plan.tuning is None:
        return ""
    ends = {min(plan.tuning.rates): "lowest", max(plan.tuning.rates): "highest"}
    tuned = {method.name for method in plan.tuned_methods()}
    found = [
        f"{row.method} ({ends[row.learning_rate]})" for row in rows if row.method in tuned and row.learning_rate in ends
    ]
    return f"\n\nThe best rate is at an end of the grid: {', '.join(found)}." if found else ""


def _table(plan: Plan, rows: Sequence[Row]) -> str:
    head = f"| method | rate | accuracy | sd | minus {plan.study.baseline} | seeds | MB up | MB down | core minutes |"
    lines = [head, "|---|---|---|---|---|---|---|---|---|"]
    lines += [
        f"| {row.method} | {row.learning_rate:g} | {100 * row.mean:.2f} | {100 * row.deviation:.2f} "
        f"| {say_difference(row.difference)} | {len(row.accuracies)} | {row.uploaded / 1e6:.2f} "
        f"| {row.downloaded / 1e6:.2f} | {row.minutes:.1f} |" + (f" {row.diverged} diverged" if row.diverged else "")
        for row in sorted(rows, key=lambda row: -row.difference.mean if row.difference else 0.0)
    ]
    return "\n".join(lines)


def _say_nothing(plan: Plan) -> str:
    return f"Nothing to compare: the baseline, {plan.study.baseline}, has no outcome on the test examples yet."


def say_difference(difference: Difference | None) -> str:
    """Return a difference in points with its interval, in bold where it is clear of 0."""
    if difference is None:
        return ""
    if math.isinf(difference.half_width):
        return f"{100 * difference.mean:+.2f} (one seed)"
    text = f"{100 * difference.mean:+.2f} ± {100 * difference.half_width:.2f}"
    return f"**{text}**" if difference.is_clear else text
