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

_CANCEL_PATIENCE_S: Final = 60.0
"""Longest that the end of a layer or of reading is waited for: a large model takes half a minute on an old PC."""

_HURRY_PATIENCE_S: Final = 4.0
"""The same where the agent ends: a service has 20 s to stop, and others need some of them."""

_END_PATIENCE_S: Final = 3.0
"""Longest that a worker without work may take to say its last, and again to end."""

_ATTEMPTS: Final = 2


@dataclass(slots=True, kw_only=True)
class _Running:
    process: SpawnProcess
    pid: int
    pipe: Connection[Any, Any]
    given_up: bool = False
    """Whether it was ended because it did not hear that its order was called off."""


class _Died(Exception):  # noqa: N818 - caught where it is raised
    def __init__(self, exit_code: int | None, *, begun: bool, given_up: bool) -> None:
        """Take how the process ended, whether it had begun with the order, and whether it was the agent's doing."""
        super().__init__()
        self.exit_code = exit_code
        killed = hasattr(signal, "SIGKILL") and exit_code == -signal.SIGKILL
        self.was_killed = begun and killed and not given_up


class WorkerProcess:
    """Carries out orders in a process of its own; see `edge_agent.worker.port.Worker`.

    One thread at a time has the pipe: whoever asks, or whoever has the process rest.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        """Start nothing yet."""
        self._settings = settings
        self._running: _Running | None = None
        self._turn = threading.RLock()
        self._paused = False
        self._told_paused = False
        """What the process that runs knows of it."""
        self._hurried = False
        self._closed = threading.Event()

    @property
    def pid(self) -> int | None:
        """Return the process; None while there is none."""
        running = self._running
        return None if running is None else running.pid

    def ask(self, order: Order[Answer], cancelled: threading.Event, tell: Tell = untold) -> Answer:
        """Have an order carried out, a second time where the process dies over it.

        One that is called off and goes on is ended with its process after a while. Raise what the order raises,
        WorkerKilledError where the system ended the process, and ResourceError (INTERNAL) where it died twice or the
        agent ends. Blocks.
        """
        with self._turn:
            for attempt in range(1, _ATTEMPTS + 1):
                if self._closed.is_set():
                    raise _ending()
                try:
                    return self._attend(order, cancelled, tell)
                except _Died as death:
                    if death.was_killed:
                        raise _killed(order) from None
                    if attempt == _ATTEMPTS or cancelled.is_set() or self._closed.is_set():
                        raise _died(death.exit_code) from None
                    log.warning(
                        "the worker process has died; it is started again",
                        exit_code=death.exit_code,
                        order=type(order).__name__,
                    )
        raise AssertionError("the last attempt returns or raises")

    def stand_aside(self, paused: bool) -> None:
        """Have training stand still, or go on; also what is yet to begin. From any thread, and at once.

        Whoever waits for the answer tells the process: a pipe may be full, and the event loop must not stand still.
        """
        self._paused = paused

    def hurry(self) -> None:
        """Give what is called off from now on, or was, little time to end. From any thread, and at once."""
        self._hurried = True

    def rest(self) -> int:
        """End the process until the next order; return what it held. Blocks, also for an order on its way."""
        with self._turn:
            running = self._running
            if running is None:
                return 0
            held = resident_bytes_of(running.pid)
            _send_quietly(running.pipe, Control.END)
            _hear_out(running.pipe, _END_PATIENCE_S)
            running.process.join(_END_PATIENCE_S)
            if running.process.is_alive():
                running.process.kill()
            self._bury(running)
            return held

    def close(self) -> None:
        """Call off what is on its way, and end the process for good. From any thread; blocks for seconds."""
        self.hurry()
        self._closed.set()
        self.rest()

    def _attend(self, order: Order[Answer], cancelled: threading.Event, tell: Tell) -> Answer:
        running, begun, answered = self._started(), False, False
        try:
            # Before the order, so that it finds the gate closed.
            self._tell_pause(running)
            _send_quietly(running.pipe, order)
            for heard in self._messages(running, cancelled):
                match heard:
                    case Begun():
                        begun = True
                    case Done():
                        answered = True
                        answer: Answer = heard.answer
                        return answer
                    case Failed():
                        answered = True
                        raise heard.error
                    case LogLine():
                        write_line(heard)
                    case Progress():
                        tell(heard)
        except BaseException:
            if not answered:
                # The next order must not be given the answer to this one.
                running.process.kill()
                self._bury(running)
            raise
        raise _Died(self._bury(running), begun=begun, given_up=running.given_up)

    def _messages(self, running: _Running, cancelled: threading.Event) -> Iterator[Any]:
        """Yield what the worker says until it ends; call its order off where that is wished, and end it if it stays."""
        called_off_at = math.inf
        while True:
            self._tell_pause(running)
            if called_off_at == math.inf and (cancelled.is_set() or self._closed.is_set()):
                called_off_at = time.monotonic()
                _send_quietly(running.pipe, Control.CANCEL)
            if time.monotonic() > called_off_at + (_HURRY_PATIENCE_S if self._hurried else _CANCEL_PATIENCE_S):
                running.given_up = True
                running.process.kill()
            if wait([running.pipe, running.process.sentinel], _LOOK_EVERY_S):
                try:
                    heard = running.pipe.recv()
                except (EOFError, OSError):
                    return
                yield heard

    def _tell_pause(self, running: _Running) -> None:
        if (paused := self._paused) is not self._told_paused:
            self._told_paused = paused
            _send_quietly(running.pipe, Control.STAND_ASIDE if paused else Control.GO_ON)

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
            self._told_paused = False
            self._running = _Running(process=process, pid=process.pid or 0, pipe=ours)
        return self._running

    def _bury(self, running: _Running) -> int | None:
        """Forget a process that ends, once its last lines are written; return its exit code."""
        running.process.join()
        self._running = None
        _hear_out(running.pipe)
        running.pipe.close()
        code = running.process.exitcode
        running.process.close()
        return code


def _hear_out(pipe: Connection[Any, Any], patience_s: float = 0.0) -> None:
    """Write what a worker that ends still says, until its end; drop what is no line of its log."""
    until = time.monotonic() + patience_s
    # A line that cannot be read or written is lost; the end of a worker goes on.
    with suppress(Exception):
        while pipe.poll(max(0.0, until - time.monotonic())):
            if isinstance(heard := pipe.recv(), LogLine):
                write_line(heard)


def _send_quietly(pipe: Connection[Any, Any], message: Order[Any] | Control) -> None:
    # Whoever waits for the answer learns that nobody has heard.
    with suppress(OSError):
        pipe.send(message)


def _killed(order: Order[Any]) -> WorkerKilledError:
    return WorkerKilledError(
        f"The system ended the agent's worker process over {type(order).__name__}, as it does where memory runs out.",
        reason=ErrorReason.MEMORY_LIMIT,
        next_step="Nothing to do if it is rare. Where it happens again, set ram_limit_mb or close other programs.",
    )


def _ending() -> ResourceError:
    return ResourceError(
        "The agent ends, and begins no more work.",
        reason=ErrorReason.INTERNAL,
        next_step="Nothing to do: it is done when the agent runs again.",
    )


def _died(exit_code: int | None) -> ResourceError:
    return ResourceError(
        f"The agent's worker process died over its work (exit code {exit_code}).",
        reason=ErrorReason.INTERNAL,
        next_step="Nothing to do for the next round; where it happens again, send HQ what"
        " `ravan-agent support-bundle` collects.",
    )
