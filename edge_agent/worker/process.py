"""What runs in the worker process: orders come in by a pipe, progress, log lines and answers go back."""

from __future__ import annotations

import os
import queue
import signal
import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import structlog

from edge_agent.config import AgentFile
from edge_agent.hardware.guard import ran_out_of_memory
from edge_agent.hardware.limits import LimitReader
from edge_agent.hardware.memory import bytes_beside, resident_bytes
from edge_agent.host.priority import be_ended_first, step_back
from edge_agent.training.outcome import TrainingCancelledError
from edge_agent.worker.bench import Bench
from edge_agent.worker.log_lines import send_logs
from edge_agent.worker.messages import Begun, Control, Done, Failed, ToWorker, WorkFaultError
from edge_agent.worker.orders import Call, Order
from ravan.errors import RavanError
from ravan.heap import give_back_at_once
from ravan.offline import stay_offline

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What a worker is started with."""

    config: AgentFile
    threads: int
    """To train with."""
    log_level: int
    agent_pid: int


def work(pipe: Connection[Any, ToWorker], settings: WorkerSettings) -> None:
    """Carry out orders until told to end; end with the agent, also when that was killed."""
    stay_offline()
    give_back_at_once()
    # Ctrl-C reaches the whole terminal group; the agent alone decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    be_ended_first()
    if settings.config.host.low_priority:
        step_back()
    _Desk(pipe, _bench_of(settings), settings.log_level).serve()


def _bench_of(settings: WorkerSettings) -> Bench:
    config = settings.config
    limits = LimitReader(
        configured_mb=config.agent.ram_limit_mb,
        keep_free_mb=config.host.keep_free_mb,
        held_bytes=lambda: resident_bytes() + bytes_beside(os.getpid(), settings.agent_pid),
    )
    return Bench(config, settings.threads, limits)


class _Desk:
    """Hear on one thread, work on the other."""

    def __init__(self, pipe: Connection[Any, ToWorker], bench: Bench, log_level: int) -> None:
        self._pipe = pipe
        self._bench = bench
        self._orders: queue.SimpleQueue[tuple[Order[Any], Call] | None] = queue.SimpleQueue()
        self._cancelled = threading.Event()
        """Of the order that came last."""
        self._sending = threading.Lock()
        send_logs(self._send, log_level)

    def serve(self) -> None:
        """Carry out what comes until the end is told."""
        threading.Thread(target=self._hear, name="orders", daemon=True).start()
        while (given := self._orders.get()) is not None:
            self._send(Begun())
            self._send(self._carry_out(*given))

    def _carry_out(self, order: Order[Any], call: Call) -> Done | Failed:
        try:
            return Done(answer=order.carry_out(self._bench, call))
        except (RavanError, TrainingCancelledError) as error:
            return Failed(error=error)
        except Exception as error:  # whatever it is, the agent is told, and the next order is taken
            if ran_out_of_memory(error):
                return Failed(error=MemoryError(str(error)))
            log.exception("an unexpected error")
            return Failed(error=WorkFaultError(f"{type(error).__name__}: {error}"))

    def _hear(self) -> None:
        try:
            while True:
                self._take(self._pipe.recv())
        except (EOFError, OSError):
            # The agent is gone, and nobody is left to work for.
            os._exit(0)
        except BaseException:  # who hears nothing any more must not be waited for
            log.exception("the worker process cannot read an order")
            os._exit(1)

    def _take(self, heard: ToWorker) -> None:
        match heard:
            case Order():
                self._cancelled = threading.Event()
                self._orders.put((heard, Call(tell=self._send, cancelled=self._cancelled)))
            case Control.CANCEL:
                self._cancelled.set()
            case Control.STAND_ASIDE:
                self._bench.gate.close()
            case Control.GO_ON:
                self._bench.gate.open()
            case Control.END:
                self._orders.put(None)

    def _send(self, message: object) -> None:
        with suppress(OSError), self._sending:
            self._pipe.send(message)
