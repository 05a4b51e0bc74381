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
        parts.append(f"## {federation.name}: {federation.settled()}\n\n{_table(plan, mine)}")
    return "\n\n".join(parts) + "\n"


def _describe(plan: Plan) -> str:
    training = plan.training
    tuned = (
        f"Learning rates: successive halving over {', '.join(f'{rate:g}' for rate in plan.tuning.rates)} "
        f"on {' / '.join(map(str, plan.tuning.rungs))} rounds, by validation, seeds "
        f"{', '.join(map(str, plan.tuning.seeds))}."
        if plan.tuning
        else "Learning rates are given."
    )
    return (
        f"# {plan.study.name}\n\n{plan.study.task}; {training.rounds} rounds of {training.steps} steps on "
        f"{training.batch_size} examples; budget: LoRA of rank {training.lora_rank}; the classifier is trained by "
        f"every method at {training.dense_learning_rate:g}. Accuracy is the mean of the last {training.average_last} "
        f"rounds on the test examples, over up to {len(plan.study.seeds)} seeds; differences are paired by seed, "
        f"with Student's 95 % interval. {tuned}"
    )


def _table(plan: Plan, rows: Sequence[Row]) -> str:
    head = f"| method | rate | accuracy | sd | minus {plan.study.baseline} | seeds | MB up | MB down | core minutes |"
    lines = [head, "|---|---|---|---|---|---|---|---|---|"]
    lines += [
        f"| {row.method} | {row.learning_rate:g} | {100 * row.mean:.2f} | {100 * row.deviation:.2f} "
        f"| {say_difference(row.difference)} | {len(row.accuracies)} | {row.uploaded / 1e6:.2f} "
        f"| {row.downloaded / 1e6:.2f} | {row.minutes:.1f} |" + (f" {row.diverged} diverged" if row.diverged else "")
        for row in sorted(rows, key=lambda row: -row.mean)
    ]
    return "\n".join(lines)


def say_difference(difference: Difference | None) -> str:
    """Return a difference in points with its interval, in bold where it is clear of 0."""
    if difference is None:
        return ""
    if math.isinf(difference.half_width):
        return f"{100 * difference.mean:+.2f} (one seed)"
    text = f"{100 * difference.mean:+.2f} ± {100 * difference.half_width:.2f}"
    return f"**{text}**" if difference.is_clear else text
