"""What goes over the pipe between the agent and its worker, pickled: both ends are the same installation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from edge_agent.worker.orders import Order


class Control(Enum):
    """What the worker hears while it works."""

    CANCEL = auto()
    """Call off the order that was sent last."""
    STAND_ASIDE = auto()
    GO_ON = auto()
    END = auto()


ToWorker = Order[Any] | Control


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A line for the agent's log, which one process alone writes."""

    level: int
    logger: str
    event: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """An order is being carried out: what ends the process from now on may be its doing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """An order was carried out."""

    answer: Any = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """An order ended with an error."""

    error: Exception


class WorkFaultError(Exception):
    """What nobody foresaw went wrong in the worker; its trace is in the log."""
