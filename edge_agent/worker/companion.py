"""The agent's side of the worker process: starts it when there is work, and outlives it whatever ends it."""

from __future__ import annotations

import math
import multiprocessing
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Final

import structlog

from edge_agent.hardware.memory import resident_bytes_of
from edge_agent.worker.log_lines import write_line
from edge_agent.worker.messages import Begun, Control, Done, Failed, LogLine
from edge_agent.worker.orders import Answer, Order, Progress, Tell
from edge_agent.worker.port import WorkerKilledError, untold
from edge_agent.worker.process import WorkerSettings, work
from ravan.errors import ErrorReason, ResourceError

log = structlog.stdlib.get_logger(__name__)

_LOOK_EVERY_S: Final = 0.2
"""How often whoever waits for an answer looks whether it is still wanted."""

_CANCEL_PATIENCE_S: Final = 15.0
"""Longest that the end of a step is waited for; a service has 20 s to stop."""

_END_PATIENCE_S: Final = 5.0

_ATTEMPTS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    process: SpawnProcess
    pid: int
    pipe: Connection[Any, Any]


class _Died(Exception):  # noqa: N818 - caught where it is raised
    def __init__(self, exit_code: int | None, *, begun: bool) -> None:
        """Take how the process ended, and whether it had begun with the order."""
        super().__init__()
        self.exit_code = exit_code
        self.was_killed = begun and hasattr(signal, "SIGKILL") and exit_code == -signal.SIGKILL


class WorkerProcess:
    """Carries out orders in a process of its own; see `edge_agent.worker.port.Worker`."""

    def __init__(self, settings: WorkerSettings) -> None:
        """Start nothing yet."""
        self._settings = settings
        self._running: _Running | None = None
        self._sending = threading.Lock()
        self._paused = False

    @property
    def pid(self) -> int | None:
        """Return the process; None while there is none."""
        running = self._running
        return None if running is None else running.pid

    def ask(self, order: Order[Answer], cancelled: threading.Event, tell: Tell = untold) -> Answer:
        """Have an order carried out, a second time where the process dies over it.

        One that is called off and goes on is ended with its process after a while. Raise what the order raises,
        WorkerKilledError where the system ended the process, and ResourceError (INTERNAL) where it died twice. Blocks.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._attend(order, cancelled, tell)
            except _Died as death:
                if death.was_killed:
                    raise _killed() from None
                if attempt == _ATTEMPTS or cancelled.is_set():
                    raise _died(death.exit_code) from None
                log.warning(
                    "the worker process has died; it is started again",
                    exit_code=death.exit_code,
                    order=type(order).__name__,
                )
        raise AssertionError("the last attempt returns or raises")

    def stand_aside(self, paused: bool) -> None:
        """Have training stand still, or go on; also what is yet to begin. From any thread."""
        with self._sending:
            self._paused = paused
            if self._running is not None:
                _send_quietly(self._running.pipe, Control.STAND_ASIDE if paused else Control.GO_ON)

    def rest(self) -> int:
        """End the process until the next order; return what it held. Blocks."""
        running = self._running
        if running is None:
            return 0
        held = resident_bytes_of(running.pid)
        self._send(Control.END)
        running.process.join(_END_PATIENCE_S)
        if running.process.is_alive():
            running.process.kill()
        self._bury(running)
        return held

    def _attend(self, order: Order[Answer], cancelled: threading.Event, tell: Tell) -> Answer:
        running, begun = self._started(), False
        self._send(order)
        for heard in self._messages(running, cancelled):
            match heard:
                case Begun():
                    begun = True
                case Done():
                    answer: Answer = heard.answer
                    return answer
                case Failed():
                    raise heard.error
                case LogLine():
                    write_line(heard)
                case Progress():
                    tell(heard)
        raise _Died(self._bury(running), begun=begun)

    def _messages(self, running: _Running, cancelled: threading.Event) -> Iterator[Any]:
        """Yield what the worker says until it ends; call its order off where that is wished, and end it if it stays."""
        give_up_at = math.inf
        while True:
            if cancelled.is_set() and give_up_at == math.inf:
                give_up_at = time.monotonic() + _CANCEL_PATIENCE_S
                self._send(Control.CANCEL)
            if time.monotonic() > give_up_at:
                running.process.kill()
            if wait([running.pipe, running.process.sentinel], _LOOK_EVERY_S):
                try:
                    heard = running.pipe.recv()
                except (EOFError, OSError):
                    return
                yield heard

    def _started(self) -> _Running:
        if self._running is not None and not self._running.process.is_alive():
            log.info("the worker process was ended while it had nothing to do")
            self._bury(self._running)
        if self._running is None:
            # Not fork: the agent has threads, and gRPC does not survive a fork.
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, self._settings), name="ravan-worker", daemon=True)
            process.start()
            theirs.close()
            with self._sending:
                self._running = _Running(process=process, pid=process.pid or 0, pipe=ours)
                if self._paused:
                    _send_quietly(ours, Control.STAND_ASIDE)
        return self._running

    def _bury(self, running: _Running) -> int | None:
        """Forget a process that ends; return its exit code."""
        with self._sending:
            self._running = None
            running.pipe.close()
        running.process.join()
        code = running.process.exitcode
        running.process.close()
        return code

    def _send(self, message: Order[Any] | Control) -> None:
        with self._sending:
            if self._running is not None:
                _send_quietly(self._running.pipe, message)


def _send_quietly(pipe: Connection[Any, Any], message: Order[Any] | Control) -> None:
    # Whoever waits for the answer learns that nobody has heard.
    with suppress(OSError):
        pipe.send(message)


def _killed() -> WorkerKilledError:
    return WorkerKilledError(
        "The system ended the agent's worker process, as it does where memory runs out.",
        reason=ErrorReason.MEMORY_LIMIT,
        next_step="Nothing to do: the next round asks for less. Set ram_limit_mb where it happens again.",
    )


def _died(exit_code: int | None) -> ResourceError:
    return ResourceError(
        f"The agent's worker process died over its work (exit code {exit_code}).",
        reason=ErrorReason.INTERNAL,
        next_step="Nothing to do for the next round; where it happens again, send HQ what"
        " `ravan-agent support-bundle` collects.",
    )
