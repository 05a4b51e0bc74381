"""Identifiers that travel: sites, jobs, runs, rounds and the blocks of parameters that are trained."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NewType, Self

SiteId = NewType("SiteId", str)
"""Name of a site, as written in its certificate; see `SITE_NAME`."""

JobId = NewType("JobId", str)
"""Identifier of a job, unique for one coordinator."""

RunId = NewType("RunId", bytes)
"""16 random bytes drawn when a job starts or is restored from a backup; salts every mask."""

Digest = NewType("Digest", bytes)
"""SHA-256 of a blob or of a signed document, 32 bytes."""

SITE_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""Lower-case letters, digits and inner hyphens, at most 63: fits a DNS label, a folder and a metric."""


class BlockKind(IntEnum):
    """What a block of trained parameters is."""

    HEAD = 1
    """A core H_i (r x r) of one Ravan head."""
    DENSE = 2
    """A whole parameter outside the heads, such as a new classifier."""


@dataclass(frozen=True, slots=True, order=True)
class BlockId:
    """Name one block: kind, epoch of its bases, ordinal of the adapted matrix, index within it."""

    kind: BlockKind
    epoch: int
    """Generation of bases in the growing bank of heads; dense blocks use 0."""
    matrix: int
    """Ordinal of the adapted matrix; for dense blocks the ordinal of the parameter."""
    index: int
    """Head index within the matrix; dense blocks use 0."""

    def __post_init__(self) -> None:
        if not (0 <= self.epoch < 1 << 16 and 0 <= self.matrix < 1 << 24 and 0 <= self.index < 1 << 16):
            raise ValueError(f"block id out of range: {self.epoch}, {self.matrix}, {self.index}")

    def pack(self) -> int:
        """Return the 64-bit form: kind u8, epoch u16, matrix u24, index u16, most significant first."""
        return self.kind << 56 | self.epoch << 40 | self.matrix << 16 | self.index

    @classmethod
    def unpack(cls, packed: int) -> Self:
        """Read the 64-bit form; raise ValueError for an unknown kind or an oversized number."""
        if not 0 <= packed < 1 << 64:
            raise ValueError(f"block id does not fit 64 bits: {packed}")
        kind = BlockKind(packed >> 56)
        return cls(kind, packed >> 40 & 0xFFFF, packed >> 16 & 0xFFFFFF, packed & 0xFFFF)

    def __str__(self) -> str:
        if self.kind is BlockKind.HEAD:
            return f"head e{self.epoch}/m{self.matrix}/{self.index}"
        return f"dense {self.matrix}"
