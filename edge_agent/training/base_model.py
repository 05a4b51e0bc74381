"""The base model in memory: at most one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_agent.hardware.memory import release_unused
from ravan.manifest.plan import JobPlan, Precision, TrainingSettings
from ravan.tasks.loading import load_task_model
from ravan.tasks.task_model import TaskModel


class ModelSlot:
    """Keep the last model that was used; old PCs have no room for two."""

    def __init__(self) -> None:
        self._key: tuple[Path, TrainingSettings, Precision] | None = None
        self._task: TaskModel[Any] | None = None

    @property
    def loaded(self) -> bool:
        """Tell whether a model is in memory."""
        return self._task is not None

    def load(self, folder: Path, plan: JobPlan) -> TaskModel[Any]:
        """Return the job's model, loaded unless it is the one that is here; raise ModelError or ConfigError."""
        key = (folder, plan.training, plan.precision)
        if self._task is None or self._key != key:
            self.drop()
            self._task, self._key = load_task_model(*key), key
            release_unused()
        return self._task

    def drop(self) -> None:
        """Forget the model."""
        self._task, self._key = None, None
        release_unused()
