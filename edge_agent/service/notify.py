"""Tell the service manager that the agent has started, what it does, that it lives, and that it ends.

systemd names a datagram socket in `NOTIFY_SOCKET` and the watchdog's patience in `WATCHDOG_USEC`. Without them,
as on a terminal or under Windows, nothing is said to anybody.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Final, Self

import structlog

log = structlog.stdlib.get_logger(__name__)

LOOK_EVERY_S: Final = 5.0
"""Between two looks at what the agent does."""
SIGNS_PER_PATIENCE: Final = 3
"""Signs of life within the watchdog's patience: one that comes late does no harm."""
LONGEST_STATUS: Final = 400


class ServiceNotifier:
    """Send the few words of systemd's protocol; a manager that is gone is no reason to end."""

    def __init__(self, address: str = "", watchdog_s: float = 0.0) -> None:
        """Speak to this socket, nobody for an empty one; `watchdog_s` of 0 means that no sign of life is expected."""
        self._address = address
        self.watchdog_s = watchdog_s
        self._said = ""

    @classmethod
    def of(cls, environment: MutableMapping[str, str]) -> Self:
        """Read what the manager asks for, and take it out of the environment: it is not meant for child processes."""
        address, patience, process = (
            environment.pop(name, "") for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        )
        meant = process in ("", str(os.getpid()))
        return cls(address, int(patience) / 1e6 if meant and patience.isdecimal() else 0.0)

    def ready(self) -> None:
        """Say that the agent has started."""
        self._send("READY=1")

    async def run(self, stop: asyncio.Event, describe: Callable[[], str]) -> None:
        """Say what the agent does and that its event loop turns, until `stop` is set; then say that it ends."""
        pause_s = min(LOOK_EVERY_S, self.watchdog_s / SIGNS_PER_PATIENCE) if self.watchdog_s else LOOK_EVERY_S
        while not stop.is_set():
            self._sign(describe())
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await stop.wait()
        self._send("STOPPING=1\nSTATUS=ending")

    def _sign(self, status: str) -> None:
        parts = ["WATCHDOG=1"] if self.watchdog_s else []
        if status != self._said:
            self._said = status
            parts.append("STATUS=" + " ".join(status.split())[:LONGEST_STATUS])
        if parts:
            self._send("\n".join(parts))

    def _send(self, message: str) -> None:
        if not self._address or sys.platform == "win32":
            return
        # A leading @ stands for the zero byte of an address that is in no file system.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
                line.setblocking(False)
                line.sendto(message.encode(), address)
        except (OSError, ValueError) as error:
            log.debug("the service manager does not listen", why=str(error))
