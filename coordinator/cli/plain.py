"""Wire messages as plain JSON values, for `--json` and for scripts.

Names stay those of the wire. Enums are their lower-case names, hashes are hexadecimal, block ids are
text, and what is absent is null: JSON readers lose large integers and know no bytes.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from ravan.codec import fields

_BLOCKS: Final = frozenset({"block_id", "withheld"})


def to_plain(message: Message) -> dict[str, Any]:
    """Return a message as a dictionary of JSON values."""
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields}


def _field(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.is_repeated:
        return [_single(field, each) for each in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _single(field, value)


def _single(field: Any, value: Any) -> Any:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return to_plain(value)
    if field.type == FieldDescriptor.TYPE_ENUM:
        return _enum_name(field, value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return value.hex()
    return str(fields.block(value)) if field.name in _BLOCKS else value


def _enum_name(field: Any, number: int) -> str | None:
    """Return the name without the prefix that all names of the enum share; None for UNSPECIFIED."""
    names = field.enum_type.values_by_number
    prefix = names[0].name.removesuffix("UNSPECIFIED")
    if number == 0:
        return None
    return names[number].name.removeprefix(prefix).lower() if number in names else str(number)
