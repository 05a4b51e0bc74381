"""Tasks by the names that plans use; each is loaded once a process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from lab.tasks.answers import load_answers
from lab.tasks.engines import load_engines
from lab.tasks.images import load_images
from lab.tasks.task import LabTask
from lab.tasks.work_orders import load_work_orders

TASKS: Final[Mapping[str, Callable[[], LabTask]]] = {
    "work_orders": load_work_orders,
    "images": load_images,
    "engines": load_engines,
    "answers": load_answers,
}


@lru_cache(maxsize=1)
def load_task(name: str) -> LabTask:
    """Return a task, the last one again where nothing has changed: one model fits in memory, several may not."""
    return TASKS[name]()
