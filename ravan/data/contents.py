"""What follows from an example's content alone: whether it is there twice, and which side of a split it falls on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, Self, TypeVar


class Duplicates(StrEnum):
    """What becomes of an example that is there already, with the same label."""

    KEEP = "keep"
    DROP = "drop"


class Contents(Protocol):
    """Examples of any kind."""

    def __len__(self) -> int: ...

    def contents(self) -> Iterator[tuple[bytes, object]]:
        """Yield each example's bytes, and its label or answer."""
        ...

    def choose(self, rows: list[int], /) -> Self:
        """Return those examples alone, in this order."""
        ...


_Examples = TypeVar("_Examples", bound=Contents)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitExamples(Generic[_Examples]):
    """Examples to learn from, and those that are kept from learning."""

    training: _Examples
    validation: _Examples
    duplicates: int
    """Examples that were there already, whether they were dropped or not."""


class ContentRegister:
    """Tell examples that come again from new ones, and the sides of a split, by hashes."""

    def __init__(self, validation_share: float) -> None:
        self._bound = int(validation_share * (1 << 64))
        self._seen: set[tuple[bytes, object]] = set()

    def enter(self, content: bytes, label: object) -> tuple[bool, bool]:
        """Return whether the example is new, and whether it is for validation.

        The side follows from the content alone: the same text with another label falls on the same one.
        """
        digest = hashlib.blake2b(content, digest_size=16).digest()
        new = (digest, label) not in self._seen
        self._seen.add((digest, label))
        return new, int.from_bytes(digest[:8]) < self._bound


def split_examples(examples: _Examples, duplicates: Duplicates, validation_share: float) -> SplitExamples[_Examples]:
    """Split examples by their content; an example falls on the same side whatever its position and company."""
    register = ContentRegister(validation_share)
    sides: tuple[list[int], list[int]] = ([], [])
    repeated = 0
    for row, (content, label) in enumerate(examples.contents()):
        new, validates = register.enter(content, label)
        repeated += not new
        if new or duplicates is Duplicates.KEEP:
            sides[validates].append(row)
    validation = examples.choose(sides[True])
    # Choosing copies images, and mostly there is nothing to leave out.
    training = examples if len(sides[False]) == len(examples) else examples.choose(sides[False])
    return SplitExamples(training=training, validation=validation, duplicates=repeated)
