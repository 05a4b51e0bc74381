"""Training settings of every task, as a plan has them."""

from __future__ import annotations

from typing import Any

from ravan.manifest.plan import Optimiser, Task, TrainingSettings


def settings_of(task: Task, **changes: Any) -> TrainingSettings:
    values: dict[str, Any] = {
        "task": task,
        "data": "orders",
        "labels": () if task is Task.CAUSAL_LM else ("pump", "engine", "cab"),
        "max_length": 16,
        "batch_size": 4,
        "steps": 3,
        "optimiser": Optimiser.ADAMW,
        "learning_rate": 0.01,
        "dense_learning_rate": 0.01,
        "weight_decay": 0.0,
        "prompt": "{text} the" if task is Task.CAUSAL_LM else "",
    }
    return TrainingSettings(**values | changes)
