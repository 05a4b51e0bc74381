"""Let other programs have the processor first."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import Final

_NICENESS: Final = 10


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
