"""The worker process, a real one: it answers, and whatever ends it costs one piece of work at most."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs
from worker_orders import (
    PATIENCE_S,
    Die,
    Fail,
    HangOn,
    PassGate,
    Talk,
    TalkAfterwards,
    TellProcess,
    TellStanding,
    WaitForCancel,
    broken_data,
)

from edge_agent.config import AgentFile
from edge_agent.hardware.guard import OutgrownError
from edge_agent.training.outcome import TrainingCancelledError
from edge_agent.worker import companion
from edge_agent.worker.companion import WorkerProcess
from edge_agent.worker.messages import WorkFaultError
from edge_agent.worker.orders import Order, Progress
from edge_agent.worker.port import WorkerKilledError
from edge_agent.worker.process import WorkerSettings
from ravan.errors import DataError, ErrorReason, ResourceError

NEVER = threading.Event()


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    settings = WorkerSettings(config=AgentFile(), threads=1, log_level=logging.INFO, agent_pid=os.getpid())
    made = WorkerProcess(settings)
    yield made
    made.rest()


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


def wait_until_gone(pid: int, within_s: float = PATIENCE_S) -> None:
    """A process that nobody has waited for is gone as well."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            return
        time.sleep(0.02)
    pytest.fail(f"process {pid} is still there")


def test_one_process_carries_out_all_orders_and_tells_how_far_it_is(worker: WorkerProcess) -> None:
    heard: list[Progress] = []
    first = worker.ask(TellProcess(steps=300), NEVER, heard.append)
    assert first == worker.pid != os.getpid()
    assert [each.done for each in heard] == list(range(300))
    assert worker.ask(TellProcess(), NEVER) == first


def test_it_stands_behind_every_other_program(worker: WorkerProcess) -> None:
    niceness, first_to_go = worker.ask(TellStanding(), NEVER)
    assert niceness >= 10
    assert first_to_go == "1000"


def test_at_rest_it_holds_nothing_and_the_next_order_starts_another(worker: WorkerProcess) -> None:
    first = worker.ask(TellProcess(), NEVER)
    assert worker.rest() > 1 << 20
    assert worker.pid is None
    assert not psutil.pid_exists(first)
    assert worker.rest() == 0
    assert worker.ask(TellProcess(), NEVER) != first


def test_errors_come_as_they_were_raised(worker: WorkerProcess) -> None:
    with pytest.raises(DataError, match="A row is broken") as broken:
        worker.ask(Fail(error=broken_data()), NEVER)
    assert (broken.value.reason, broken.value.next_step) == (ErrorReason.DATA_UNREADABLE, "Mend row 3.")
    with pytest.raises(OutgrownError, match="more than 9 MiB") as outgrown:
        worker.ask(Fail(error=OutgrownError(9 << 20, 8 << 20)), NEVER)
    assert outgrown.value.seen_bytes == 9 << 20
    with pytest.raises(MemoryError):
        worker.ask(Fail(error=RuntimeError("DefaultCPUAllocator: can't allocate memory")), NEVER)


def test_what_nobody_foresaw_is_in_the_log_with_its_trace_and_the_worker_lives_on(worker: WorkerProcess) -> None:
    first = worker.ask(TellProcess(), NEVER)
    with capture_logs() as lines, pytest.raises(WorkFaultError, match="KeyError: 'nobody'"):
        worker.ask(Fail(error=KeyError("nobody")), NEVER)
    (line,) = lines
    assert line["log_level"] == "error"
    assert "KeyError: 'nobody'" in line["exception"]
    assert "carry_out" in line["exception"]
    assert worker.ask(TellProcess(), NEVER) == first


def test_an_order_is_called_off_and_the_next_one_is_not(worker: WorkerProcess) -> None:
    cancelled = threading.Event()
    with pytest.raises(TrainingCancelledError):
        worker.ask(WaitForCancel(), cancelled, lambda _: cancelled.set())
    again = threading.Event()
    with pytest.raises(TrainingCancelledError):
        worker.ask(WaitForCancel(), again, lambda _: again.set())


def test_an_order_that_hears_nothing_is_ended_with_its_process(
    worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(companion, "_CANCEL_PATIENCE_S", 0.5)
    first, cancelled = worker.ask(TellProcess(), NEVER), threading.Event()
    with pytest.raises(ResourceError):
        worker.ask(HangOn(), cancelled, lambda _: cancelled.set())
    wait_until_gone(first)
    assert worker.ask(TellProcess(), NEVER) != first


class TellError(Exception):
    pass


def refuse(_: Progress) -> None:
    raise TellError


def test_where_the_agent_fails_over_an_order_the_next_one_gets_its_own_answer(worker: WorkerProcess) -> None:
    with pytest.raises(TellError):
        worker.ask(TellProcess(steps=2), NEVER, refuse)
    assert worker.ask(PassGate(), NEVER) == "through"


@pytest.mark.parametrize("late", [False, True])
def test_an_agent_that_ends_does_not_wait_long_for_what_hears_nothing(
    worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch, *, late: bool
) -> None:
    monkeypatch.setattr(companion, "_CANCEL_PATIENCE_S", 1e9)
    monkeypatch.setattr(companion, "_HURRY_PATIENCE_S", 0.5)
    cancelled = threading.Event()
    threading.Timer(1.0 if late else 0.0, worker.hurry).start()
    with pytest.raises(ResourceError) as caught:
        worker.ask(HangOn(), cancelled, lambda _: cancelled.set())
    # Whom the agent itself has ended, memory has not run out for.
    assert not isinstance(caught.value, WorkerKilledError)


def start_asking(worker: WorkerProcess, order: Order[Any]) -> tuple[threading.Thread, list[Exception]]:
    """Ask on a thread of its own, and wait until the order tells something."""
    told, errors = threading.Event(), list[Exception]()

    def ask() -> None:
        try:
            worker.ask(order, NEVER, lambda _: told.set())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    assert told.wait(PATIENCE_S)
    return thread, errors


def test_the_agents_end_calls_off_what_is_on_its_way_and_no_more_is_begun(worker: WorkerProcess) -> None:
    asking, errors = start_asking(worker, WaitForCancel())
    pid = worker.pid
    assert pid is not None
    worker.close()
    asking.join(PATIENCE_S)
    assert [type(error) for error in errors] == [TrainingCancelledError]
    assert worker.pid is None
    assert not psutil.pid_exists(pid)
    with pytest.raises(ResourceError, match="The agent ends"):
        worker.ask(TellProcess(), NEVER)


def test_a_worker_that_reads_nothing_does_not_hold_up_who_has_it_stand_aside(worker: WorkerProcess) -> None:
    asking, _ = start_asking(worker, HangOn())
    pid = worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)

    def flicker() -> None:
        for number in range(20_000):  # more than a pipe holds
            worker.stand_aside(number % 2 == 0)

    loop = threading.Thread(target=flicker, daemon=True)
    loop.start()
    loop.join(PATIENCE_S)
    held_up = loop.is_alive()
    os.kill(pid, signal.SIGKILL)
    asking.join(PATIENCE_S)
    assert not held_up


def test_it_stands_aside_before_it_begins_and_goes_on_when_told(worker: WorkerProcess) -> None:
    heard: list[int] = []
    worker.stand_aside(True)

    def go_on(progress: Progress) -> None:
        heard.append(progress.done)
        worker.stand_aside(False)

    assert worker.ask(PassGate(), NEVER, go_on) == "through"
    assert worker.ask(PassGate(), NEVER, go_on) == "through"
    assert heard == [1, 0]


@pytest.mark.parametrize("by", [signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM])
def test_a_worker_that_dies_is_started_again_and_does_the_work(
    worker: WorkerProcess, marks: Path, by: signal.Signals
) -> None:
    with capture_logs() as lines:
        assert worker.ask(Die(by=by, times=1, marks=marks), NEVER) == "alive"
    assert [(line["log_level"], line["exit_code"], line["order"]) for line in lines] == [("warning", -by, "Die")]


def test_work_that_ends_two_workers_is_given_up(worker: WorkerProcess, marks: Path) -> None:
    with capture_logs(), pytest.raises(ResourceError, match=r"exit code -11") as caught:
        worker.ask(Die(by=signal.SIGSEGV, times=5, marks=marks), NEVER)
    assert caught.value.reason is ErrorReason.INTERNAL
    assert len(list(marks.iterdir())) == 2
    assert worker.ask(TellProcess(), NEVER) == worker.pid


def test_a_worker_that_the_system_ends_is_not_sent_at_the_same_work_again(worker: WorkerProcess, marks: Path) -> None:
    with pytest.raises(WorkerKilledError) as caught:
        worker.ask(Die(by=signal.SIGKILL, times=5, marks=marks), NEVER)
    assert caught.value.reason is ErrorReason.MEMORY_LIMIT
    assert len(list(marks.iterdir())) == 1
    assert worker.ask(TellProcess(), NEVER) == worker.pid


def test_a_worker_that_was_ended_while_idle_costs_nothing(worker: WorkerProcess) -> None:
    first = worker.ask(TellProcess(), NEVER)
    os.kill(first, signal.SIGKILL)
    with capture_logs() as lines:
        wait_until_gone(first)
        assert worker.ask(TellProcess(), NEVER) != first
    assert len(lines) == 1


def test_its_lines_are_in_the_agents_log(worker: WorkerProcess) -> None:
    with capture_logs() as lines:
        worker.ask(Talk(), NEVER)
    assert lines == [
        {"event": "said", "where": "/somewhere", "times": 2, "log_level": "info"},
        {"event": "a library warns", "log_level": "warning"},
        {"event": "between two levels", "log_level": "warning"},
    ]


def test_what_it_says_while_it_ends_is_in_the_log(worker: WorkerProcess) -> None:
    with capture_logs() as lines:
        worker.ask(TalkAfterwards(killed=False), NEVER)
        worker.rest()
    assert [line["event"] for line in lines] == ["last words"]


def test_what_it_said_before_it_was_ended_idle_is_in_the_log(worker: WorkerProcess) -> None:
    worker.ask(TalkAfterwards(killed=True), NEVER)
    pid = worker.pid
    assert pid is not None
    wait_until_gone(pid)
    with capture_logs() as lines:
        assert worker.ask(TellProcess(), NEVER) != pid
    assert "last words" in [line["event"] for line in lines]


AGENT = """
import logging, os, sys, threading
from edge_agent.config import AgentFile
from edge_agent.worker import companion
from edge_agent.worker.companion import WorkerProcess
from edge_agent.worker.process import WorkerSettings
from worker_orders import TellProcess, WaitForCancel
if __name__ == "__main__":
    settings = WorkerSettings(config=AgentFile(), threads=1, log_level=logging.INFO, agent_pid=os.getpid())
    worker = WorkerProcess(settings)
    print(worker.ask(TellProcess(), threading.Event()), flush=True)
    worker.ask(WaitForCancel(), threading.Event())
"""


def test_it_ends_with_an_agent_that_was_killed_also_in_the_midst_of_work(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(AGENT)
    path = os.pathsep.join(each for each in sys.path if each)
    command = [sys.executable, str(tmp_path / "agent.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path}) as agent:
        assert agent.stdout is not None
        worker_pid = next(int(line) for line in iter(agent.stdout.readline, b"") if line.strip().isdigit())
        agent.kill()
    wait_until_gone(worker_pid, within_s=PATIENCE_S / 2)


def test_the_agents_own_process_holds_no_model_library() -> None:
    script = "import sys, edge_agent.app; print({'torch', 'transformers', 'tokenizers'} & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "set()"
