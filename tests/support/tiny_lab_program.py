"""`python -m lab` with the tiny task among its tasks; the processes that play runs import this file as well."""

from __future__ import annotations

from tiny_lab import tiny_task

from lab.tasks.registry import TASKS

TASKS["tiny"] = tiny_task  # type: ignore[index]

if __name__ == "__main__":
    from lab.__main__ import _run

    _run()
