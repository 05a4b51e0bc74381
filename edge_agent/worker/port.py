"""What the session knows of its worker."""

from __future__ import annotations

import threading
from typing import Protocol

from edge_agent.worker.orders import Answer, Order, Progress, Tell
from ravan.errors import ResourceError


def untold(_: Progress) -> None:
    """Hear progress that nobody follows."""


class WorkerKilledError(ResourceError):
    """The system ended the worker over an order, as it does where memory runs out."""


class Worker(Protocol):
    """Carries out orders, one at a time."""

    @property
    def pid(self) -> int | None:
        """Return the process that it works in; None while there is none."""
        ...

    def ask(self, order: Order[Answer], cancelled: threading.Event, tell: Tell = untold) -> Answer:
        """Have an order carried out, and return its answer; setting `cancelled` calls it off. Blocks."""
        ...

    def stand_aside(self, paused: bool) -> None:
        """Have training stand still, or go on; also what is yet to begin. From any thread, and at once."""
        ...

    def hurry(self) -> None:
        """Give what is called off little time to end, since the agent ends. From any thread, and at once."""
        ...

    def rest(self) -> int:
        """Give all memory back until the next order; return how many bytes that were. Blocks."""
        ...
