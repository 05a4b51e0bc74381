"""Signed documents: the exact bytes that the coordinator signed, as they travel and as they are hashed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DocumentKind(StrEnum):
    """What a signed document holds; each kind is hashed and signed under a label of its own."""

    PLAN = "plan"
    ASSIGNMENT = "assignment"
    ROSTER = "roster"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedDocument:
    """Serialised plan, assignment or roster with the manifest key's signature."""

    payload: bytes
    signature: bytes
