"""Who plays cells: processes of this machine, each with one thread, or the machines of a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any

from lab.simulation import Outcome, play_cell, use_one_thread
from lab.study.cell import Cell
from lab.tasks.registry import load_task

Submit = Callable[[Cell], "Future[Outcome]"]


def play_here(cell: Cell) -> Outcome:
    """Play a cell in this process, which has its task loaded from the second time on."""
    use_one_thread()
    return play_cell(cell, load_task(cell.task))


@contextmanager
def local_crew(workers: int) -> Iterator[Submit]:
    """Start processes; what they were given last is called off when the context ends early."""
    context = multiprocessing.get_context("spawn")
    # Before any library is loaded there; a pool of threads for each process would have them fight for the cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_work) as pool:
        try:
            yield lambda cell: pool.submit(play_here, cell)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _begin_work() -> None:
    use_one_thread()
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End this process with the study, also when that was killed: what it was playing is nobody's any more."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def ray_crew(address: str) -> Iterator[Submit]:
    """Connect to a Ray cluster whose machines have this package and its data; one core a cell."""
    import ray  # noqa: PLC0415 - optional, and large

    ray.init(address=address, log_to_driver=False)
    remote: Any = ray.remote(num_cpus=1)(play_here)
    try:
        yield lambda cell: remote.remote(cell).future()
    finally:
        ray.shutdown()


def play_all(cells: Iterable[Cell], submit: Submit, done: Callable[[Cell, Outcome], None]) -> None:
    """Play cells side by side and tell each outcome as it comes.

    After a failure what is being played comes to its end and is told, nothing more is begun, and the failure is raised.
    """
    waiting = {submit(cell): cell for cell in cells}
    failure: BaseException | None = None
    for future in as_completed(waiting):
        if future.cancelled():
            continue
        error = future.exception()
        if error is None:
            done(waiting[future], future.result())
        elif failure is None:
            failure = error
            for other in waiting:
                other.cancel()
    if failure is not None:
        raise failure
