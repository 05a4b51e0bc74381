"""Memory that training takes over the loaded idle model: ours against PEFT LoRA's with as many trained numbers.

Every measurement is a process of its own, since what one leaves behind would blur the next; the forms take turns
and figures are ratios of medians. All run as the agent does, with freed memory given back at once.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from statistics import median
from typing import Any

import click

from benchmarks.results import publish, say

CASES = ("minilm 32x64", "bert-base 8x128")
FORMS = ("lora", "full", "quarter", "stacked", "naive")


def measure_apart(case: str, form: str, threads: int) -> dict[str, Any]:
    """Return the figures of one form, measured in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.memory_side", case, form, str(threads)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    figures: dict[str, Any] = json.loads(answer)
    return figures


def measure(case: str, repeats: int, threads: int) -> dict[str, float]:
    """Return the medians of one case in MB, and those of all forms as ratios to LoRA's."""
    extra: defaultdict[str, list[int]] = defaultdict(list)
    facts: dict[str, float] = {}
    say(f"{case}: extra peak in MB")
    for number in range(1, repeats + 1):
        for form in FORMS:
            figures = measure_apart(case, form, threads)
            extra[form].append(figures["extra_peak_bytes"])
            facts[f"{form}_trained"] = figures["trained"]
            facts["idle_mb"] = round(figures["idle_bytes"] / 1e6, 1)
        say(f"  {number}/{repeats}: " + ", ".join(f"{form} {extra[form][-1] / 1e6:.1f}" for form in FORMS))
    medians = {form: median(extra[form]) for form in FORMS}
    megabytes = {f"{form}_mb": round(value / 1e6, 1) for form, value in medians.items()}
    ratios = {form: round(value / medians["lora"], 3) for form, value in medians.items()}
    return {**ratios, "quarter_of_full": round(medians["quarter"] / medians["full"], 3), **megabytes, **facts}


@click.command()
@click.option("--repeats", default=5, show_default=True, help="Processes of each form; medians are reported.")
@click.option("--threads", default=2, show_default=True, help="Threads of the tensor library.")
def main(repeats: int, threads: int) -> None:
    """Compare the memory of training."""
    cases = {case: measure(case, repeats, threads) for case in CASES}
    publish(
        "bench-memory",
        {
            "ratio_quarter": max(case["quarter_of_full"] for case in cases.values()),
            "ratio_full_vs_lora": max(case["full"] for case in cases.values()),
            "ratio_stacked_vs_lora": max(case["stacked"] for case in cases.values()),
            "ratio_naive_vs_lora": max(case["naive"] for case in cases.values()),
            "bars": {"ratio_quarter": 0.5, "ratio_full_vs_lora": 1.1},
            "cases": cases,
        },
    )


if __name__ == "__main__":
    main()
