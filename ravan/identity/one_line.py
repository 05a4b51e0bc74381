"""Documents as one line that survives being pasted: fields behind their lengths, in base64url without padding.

Each content has one spelling, and each line at most one content.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable


def join_fields(fields: Iterable[bytes]) -> bytes:
    """Return the fields, each behind its length in two bytes."""
    return b"".join(len(part).to_bytes(2, "big") + part for part in fields)


def split_fields(content: bytes) -> list[bytes]:
    """Return the fields again; raise ValueError for what `join_fields` did not make."""
    fields, position = [], 0
    while position < len(content):
        length = int.from_bytes(content[position : position + 2], "big")
        position += 2 + length
        if position > len(content):
            raise ValueError("a field is cut off")
        fields.append(content[position - length : position])
    return fields


def write_letters(content: bytes) -> str:
    """Return letters, digits, `-` and `_` that stand for these bytes."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def read_letters(text: str) -> bytes:
    """Return the bytes again; raise ValueError for what `write_letters` did not write."""
    content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    # the last letter has spare bits: only one spelling of each content is accepted
    if write_letters(content) != text:
        raise ValueError("the last letter has bits that mean nothing")
    return content
