"""Questions from other threads to the event loop's objects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import structlog

Result = TypeVar("Result")

log = structlog.stdlib.get_logger(__name__)

PATIENCE_S: Final = 5.0
"""How long an answer may take: Prometheus and people ask again."""


class LoopInquiry:
    """Ask the event loop in which this was built."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def ask(self, question: Callable[[], Coroutine[Any, Any, Result]], otherwise: Callable[[], Result]) -> Result:
        """Return the answer, or what `otherwise` says where there is none in time; called outside the event loop."""
        try:
            return asyncio.run_coroutine_threadsafe(question(), self._loop).result(PATIENCE_S)
        except Exception:
            log.warning("the status could not be gathered", exc_info=True)
            return otherwise()
