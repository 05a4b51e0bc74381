"""Let other programs have processor and memory first."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

_NICENESS: Final = 10

_OOM_SCORE: Final = Path("/proc/self/oom_score_adj")
_FIRST_TO_GO: Final = "1000"
"""The highest there is; the system's unit gives the agent itself 500."""


def step_back() -> None:
    """Lower the priority of the thread that calls, and of threads that it starts; the process keeps answering.

    Where only whole processes have priorities (Windows, macOS), the process's is lowered.
    """
    with suppress(OSError):
        if sys.platform == "linux":
            # Linux gives each thread a niceness of its own, and torch's threads take over that of their maker.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        elif sys.platform == "win32":
            import psutil  # noqa: PLC0415 - Linux needs only the standard library for it

            psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        else:
            os.nice(_NICENESS)


def be_ended_first() -> None:
    """Have the kernel end this process before all others when memory runs out; elsewhere than on Linux do nothing."""
    with suppress(OSError):
        _OOM_SCORE.write_text(_FIRST_TO_GO, encoding="ascii")
