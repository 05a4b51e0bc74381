"""Orders that do to a worker process what a model might."""

from __future__ import annotations

import logging
import os
import resource
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from edge_agent.training.outcome import TrainingCancelledError
from edge_agent.worker.bench import Bench
from edge_agent.worker.orders import Call, Order, Progress
from ravan.errors import DataError, ErrorReason

PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TellProcess(Order[int]):
    """Tell in which process it is carried out, after some progress."""

    steps: int = 0

    def carry_out(self, bench: Bench, call: Call) -> int:
        print("libraries talk on standard output")
        for step in range(self.steps):
            call.tell(Progress(done=step, total=self.steps))
        return os.getpid()


@dataclass(frozen=True, slots=True, kw_only=True)
class TellStanding(Order[tuple[int, str]]):
    """Tell the process's niceness and how early the kernel would end it."""

    def carry_out(self, bench: Bench, call: Call) -> tuple[int, str]:
        return os.getpriority(os.PRIO_PROCESS, 0), Path("/proc/self/oom_score_adj").read_text().strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Die(Order[str]):
    """End the process by a signal, the first so many times; `marks` has a file for each time."""

    by: signal.Signals
    times: int
    marks: Path

    def carry_out(self, bench: Bench, call: Call) -> str:
        seen = len(list(self.marks.iterdir()))
        (self.marks / str(seen)).touch()
        if seen < self.times:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.kill(os.getpid(), self.by)
        return "alive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail(Order[None]):
    """Raise something."""

    error: Exception

    def carry_out(self, bench: Bench, call: Call) -> None:
        raise self.error


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitForCancel(Order[None]):
    """Go on until called off."""

    def carry_out(self, bench: Bench, call: Call) -> None:
        call.tell(Progress(done=0, total=1))
        if not call.cancelled.wait(PATIENCE_S):
            raise TimeoutError
        raise TrainingCancelledError


@dataclass(frozen=True, slots=True, kw_only=True)
class HangOn(Order[None]):
    """Hear nothing any more."""

    def carry_out(self, bench: Bench, call: Call) -> None:
        call.tell(Progress(done=0, total=1))
        time.sleep(10 * PATIENCE_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class PassGate(Order[str]):
    """Say that it is there, and pass the gate."""

    def carry_out(self, bench: Bench, call: Call) -> str:
        call.tell(Progress(done=int(bench.gate.is_closed), total=1))
        bench.gate.go_through()
        return "through"


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk(Order[None]):
    """Say something in each of the ways there are."""

    def carry_out(self, bench: Bench, call: Call) -> None:
        structlog.stdlib.get_logger("ours").info("said", where=Path("/somewhere"), times=2)
        structlog.stdlib.get_logger("ours").debug("too quiet to be heard")
        logging.getLogger("theirs").warning("a library %s", "warns")
        logging.getLogger("theirs").log(logging.WARNING + 5, "between two levels")


@dataclass(frozen=True, slots=True, kw_only=True)
class TalkAfterwards(Order[None]):
    """Say something once the order is done and some time has gone by, and end the process then if so wished."""

    killed: bool

    def carry_out(self, bench: Bench, call: Call) -> None:
        threading.Thread(target=self._talk).start()

    def _talk(self) -> None:
        time.sleep(0.3)
        structlog.stdlib.get_logger("ours").info("last words")
        if self.killed:
            os.kill(os.getpid(), signal.SIGKILL)


def broken_data() -> DataError:
    return DataError("A row is broken.", reason=ErrorReason.DATA_UNREADABLE, next_step="Mend row 3.")
