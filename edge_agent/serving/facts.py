"""What is told of a kept model."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from edge_agent.serving.kept import KeptModel


def model_facts(kept: KeptModel) -> dict[str, Any]:
    """Return what programs get."""
    plan = kept.plan
    return {
        "job": plan.job_name,
        "job_id": plan.job_id,
        "task": plan.training.task.value,
        "base_model": plan.model_name,
        "labels": list(plan.training.labels),
        "round": kept.round_number,
        "version": kept.state_digest.hex(),
        "kept_at": _time(kept.kept_at),
    }


def describe_model(kept: KeptModel) -> str:
    """Return the line that a person reads."""
    plan = kept.plan
    return (
        f"{plan.job_name}  {plan.training.task}  on {plan.model_name}, of round {kept.round_number},"
        f" kept {_time(kept.kept_at)}, version {kept.state_digest.hex()[:12]}"
    )


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
