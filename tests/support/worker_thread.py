"""The worker's own work in the thread of whoever asks: a process would import torch anew in each test."""

from __future__ import annotations

import threading

from edge_agent.config import AgentFile
from edge_agent.hardware.limits import LimitReader
from edge_agent.hardware.memory import resident_bytes
from edge_agent.hardware.probe import training_threads
from edge_agent.worker.bench import Bench
from edge_agent.worker.orders import Answer, Call, Order, Tell
from edge_agent.worker.port import untold


class WorkerThread:
    """Carry orders out on a bench, as the process does."""

    pid = None

    def __init__(self, config: AgentFile) -> None:
        self._config = config
        self._bench = self._new_bench()

    def ask(self, order: Order[Answer], cancelled: threading.Event, tell: Tell = untold) -> Answer:
        return order.carry_out(self._bench, Call(tell=tell, cancelled=cancelled))

    def stand_aside(self, paused: bool) -> None:
        if paused:
            self._bench.gate.close()
        else:
            self._bench.gate.open()

    def hurry(self) -> None:
        """Nothing here is ended by force."""

    def rest(self) -> int:
        before, paused, held = resident_bytes(), self._bench.gate.is_closed, self._bench.holds_model
        self._bench.drop_model()
        self._bench = self._new_bench()
        self.stand_aside(paused)
        return max(1, before - resident_bytes()) if held else 0

    def _new_bench(self) -> Bench:
        config = self._config
        limits = LimitReader(configured_mb=config.agent.ram_limit_mb, keep_free_mb=config.host.keep_free_mb)
        return Bench(config, training_threads(config.agent.threads), limits)
