"""Keep what goes over a line below a rate."""

from __future__ import annotations

import asyncio
from typing import Final


class Pace:
    """Holds back whoever moves bytes, so that all who share it stay below one rate on the average."""

    def __init__(self, kib_per_s: int) -> None:
        """Take the rate in KiB a second; 0 holds nobody back."""
        self._bytes_per_s = kib_per_s * 1024
        self._due = 0.0

    @property
    def limited(self) -> bool:
        """Tell whether there is a rate to keep."""
        return self._bytes_per_s > 0

    async def wait_for(self, size_bytes: int) -> None:
        """Wait until what was moved before has had its time, and count this much on top."""
        if not self.limited:
            return
        now = asyncio.get_running_loop().time()
        due, self._due = self._due, max(self._due, now) + size_bytes / self._bytes_per_s
        await asyncio.sleep(max(0.0, due - now))


UNPACED: Final = Pace(0)
