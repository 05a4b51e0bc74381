"""Bytes that a method moves, counted to the last: those of preparation and of every round, both ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SUMMED: Final = 3
"""Bytes of a number of which only the sum is needed: it can travel under masks in a ring of 24 bits."""

READ: Final = 4
"""Bytes of a number that the server, or a client, has to read as it is: a float32."""


@dataclass(slots=True)
class Ledger:
    """What has been moved so far, over all clients."""

    uploaded: int = 0
    downloaded: int = 0

    def upload(self, numbers: int, width: int = SUMMED) -> None:
        """Count what one client sends."""
        self.uploaded += numbers * width

    def download(self, numbers: int) -> None:
        """Count what one client is sent."""
        self.downloaded += numbers * READ
