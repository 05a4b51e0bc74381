"""What a target is: formats that read bytes, and the refusals that their documentation names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message

from ravan.errors import ErrorReason, RavanError
from ravan.rpc.status import detail_of

Refusals = Mapping[type[RavanError], frozenset[ErrorReason]]
"""Every kind of error, with its reasons, that the readers of a target may raise."""

PART_LENGTH_BYTES: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One thing that a peer sends, and who reads it."""

    name: str
    read: Callable[[bytes], object]
    """Parse the bytes and check what must hold of every sound value; AssertionError when it does not."""
    seeds: Callable[[], Iterable[bytes]]
    """Sound inputs to start from."""
    message: type[Message] | None = None
    """What the bytes are parsed as, where that is one message."""
    words: tuple[str, ...] = ()
    """What the format's language is made of, for bytes that are text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A family of formats that is fuzzed as one; the first byte of an input says which is read."""

    name: str
    formats: tuple[Format, ...]
    refusals: Refusals

    def accepts(self, data: bytes) -> bool:
        """Read one input and tell whether it was sound; whatever is raised is a finding."""
        chosen = self.format_of(data)
        try:
            chosen.read(data[1:])
        except RavanError as refusal:
            if refusal.reason not in self.refusals.get(type(refusal), frozenset()):
                raise
            detail_of(refusal)  # callers get every refusal as metadata, so it must always fit there
            return False
        return True

    def format_of(self, data: bytes) -> Format:
        """Return the format that an input is read as."""
        return self.formats[data[0] % len(self.formats) if data else 0]

    def seeds(self) -> dict[str, bytes]:
        """Return sound inputs by name, drawn up from the values of today."""
        return {
            f"{chosen.name.replace(' ', '-')}-{number}": bytes([position]) + seed
            for position, chosen in enumerate(self.formats)
            for number, seed in enumerate(chosen.seeds())
        }


def require(holds: bool, rule: str) -> None:
    """Raise AssertionError unless a property of a sound value holds."""
    if not holds:
        raise AssertionError(rule)


def split_parts(data: bytes) -> list[bytes]:
    """Cut an input into parts that each carry their length; the last one may be cut short."""
    parts = []
    while data:
        end = PART_LENGTH_BYTES + int.from_bytes(data[:PART_LENGTH_BYTES], "big")
        parts.append(data[PART_LENGTH_BYTES:end])
        data = data[end:]
    return parts


def join_parts(*parts: bytes) -> bytes:
    """Put parts of under 64 KiB together as `split_parts` reads them."""
    return b"".join(len(part).to_bytes(PART_LENGTH_BYTES, "big") + part for part in parts)
