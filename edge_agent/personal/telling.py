"""What is told of own heads that were trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from edge_agent.personal.training import OwnTraining
from edge_agent.serving.kept import KeptModel


def outcome_facts(kept: KeptModel, outcome: OwnTraining) -> dict[str, Any]:
    """Return what programs get."""
    return {
        "job": kept.plan.job_name,
        "round": kept.round_number,
        "steps": outcome.steps,
        "learnt_from": outcome.learnt_from,
        "shared": dataclasses.asdict(outcome.shared),
        "own": dataclasses.asdict(outcome.own),
        "kept": outcome.better,
    }


def describe_outcome(kept: KeptModel, outcome: OwnTraining) -> Iterator[str]:
    """Yield the lines that a person reads."""
    name, shared, own = kept.plan.job_name, outcome.shared, outcome.own
    yield (
        f"{name}, round {kept.round_number}: {outcome.steps} steps on {outcome.learnt_from} examples,"
        f" judged by {shared.examples} that nothing was learnt from."
    )
    yield f"  shared model   accuracy {shared.accuracy:.1%}, loss {shared.loss:.4f}"
    yield f"  own heads      accuracy {own.accuracy:.1%}, loss {own.loss:.4f}"
    if outcome.better:
        yield f"They are better and were kept: ravan-agent predict {name} INPUT --personal"
    else:
        yield "They are no better; nothing was kept."
