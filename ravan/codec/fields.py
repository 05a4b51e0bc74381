"""Checks of single wire fields; each names the field in its sentence."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from ravan.errors import ErrorReason, ProtocolError
from ravan.ids import SITE_NAME, BlockId, Digest, RunId, SiteId

DIGEST_BYTES: Final = 32
KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
RUN_BYTES: Final = 16
INDEX_LIMIT: Final = 1 << 16
"""Signatures carry indices in two bytes, so larger ones can never be valid."""
TEXT_LIMIT: Final = 1000
"""Most characters of a name or text field."""

Parsed = TypeVar("Parsed", bound=Message)


class HasFields(Protocol):
    """A protobuf message, as far as presence and choice are concerned."""

    def HasField(self, field_name: Any) -> bool:  # noqa: N802 - protobuf's name
        """Tell whether the sub-message is set."""
        ...


def malformed(sentence: str) -> ProtocolError:
    """Return the error for a message that cannot be understood."""
    return ProtocolError(
        sentence,
        reason=ErrorReason.MALFORMED,
        next_step="Check that coordinator and agent are of the same release.",
    )


def parse(message: type[Parsed], raw: bytes, what: str) -> Parsed:
    """Parse serialised bytes; raise ProtocolError (MALFORMED) for anything that is no such message."""
    try:
        return message.FromString(raw)
    except DecodeError as error:
        raise malformed(f"The {what} cannot be parsed.") from error


def require(owner: HasFields, field: str) -> None:
    """Raise unless the sub-message `field` is set."""
    if not owner.HasField(field):
        raise malformed(f"The message lacks its field {field}.")


def fixed(raw: bytes, length: int, what: str) -> bytes:
    """Return `raw` when it has exactly `length` bytes."""
    if len(raw) != length:
        raise malformed(f"The {what} has {len(raw)} bytes instead of {length}.")
    return raw


def digest(raw: bytes, what: str) -> Digest:
    """Return a SHA-256 digest."""
    return Digest(fixed(raw, DIGEST_BYTES, what))


def optional_digest(raw: bytes, what: str) -> Digest:
    """Return a SHA-256 digest, or the empty one when the field is absent."""
    return digest(raw, what) if raw else Digest(b"")


def run_id(raw: bytes) -> RunId:
    """Return the id of a run."""
    return RunId(fixed(raw, RUN_BYTES, "run id"))


def ranged(value: int, low: int, high: int, what: str) -> int:
    """Return an integer within low..high, both included."""
    if not low <= value <= high:
        raise malformed(f"The {what} is {value}, outside {low} to {high}.")
    return value


def index(value: int, what: str) -> int:
    """Return an index of a member, bundle or tile."""
    return ranged(value, 0, INDEX_LIMIT - 1, what)


def number(value: float, what: str, *, positive: bool = False) -> float:
    """Return a finite number that is not negative, and not 0 where `positive` is asked."""
    if not math.isfinite(value) or value < 0 or (positive and value == 0):
        raise malformed(f"The {what} is {value}; it must be {'above 0' if positive else '0 or more'} and finite.")
    return value


def share(value: float, what: str) -> float:
    """Return a number above 0 and at most 1."""
    if number(value, what, positive=True) > 1:
        raise malformed(f"The {what} is {value}; it must be at most 1.")
    return value


def text(value: str, what: str, *, empty: bool = False, lines: bool = False) -> str:
    """Return a text of at most 1000 characters, control characters excluded but line feeds where `lines`."""
    if not value and not empty:
        raise malformed(f"The {what} is empty.")
    if len(value) > TEXT_LIMIT or any(map(_is_control, value.replace("\n", "") if lines else value)):
        raise malformed(f"The {what} is longer than {TEXT_LIMIT} characters or holds control characters.")
    return value


def _is_control(character: str) -> bool:
    return ord(character) < 32 or ord(character) == 127


def site(value: str) -> SiteId:
    """Return the name of a site."""
    if not SITE_NAME.fullmatch(value):
        raise malformed("A site's name must be lower-case letters, digits and inner hyphens, at most 63.")
    return SiteId(value)


def block(packed: int) -> BlockId:
    """Return a block id from its 64-bit form."""
    try:
        return BlockId.unpack(packed)
    except ValueError as error:
        raise malformed(f"{packed:#x} is no block id.") from error


def blocks(packed: Iterable[int]) -> tuple[BlockId, ...]:
    """Return block ids, each of which occurs once."""
    return unique(tuple(block(each) for each in packed), "block ids")


Element = TypeVar("Element")


def unique(values: tuple[Element, ...], what: str) -> tuple[Element, ...]:
    """Return the values when none occurs twice."""
    if len(set(values)) != len(values):
        raise malformed(f"The {what} are not all different.")
    return values


def ascending(values: Sequence[int], what: str) -> tuple[int, ...]:
    """Return indices that rise strictly."""
    found = tuple(index(value, what) for value in values)
    if any(a >= b for a, b in itertools.pairwise(found)):
        raise malformed(f"The {what} list is not strictly ascending.")
    return found
