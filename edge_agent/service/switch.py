"""End a running agent from another thread, as a Windows service has to."""

from __future__ import annotations

import threading
from collections.abc import Callable


class StopSwitch:
    """May be pressed before the agent has come so far that it can be told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pressed = False
        self._ring: Callable[[], object] | None = None

    def connect(self, ring: Callable[[], object]) -> None:
        """Have `ring` called, from any thread, when the switch is or was pressed."""
        with self._lock:
            self._ring = ring
            if self._pressed:
                ring()

    def disconnect(self) -> None:
        """Call nobody any more."""
        with self._lock:
            self._ring = None

    def press(self) -> None:
        """Tell the agent to end."""
        with self._lock:
            self._pressed = True
            if self._ring is not None:
                self._ring()
