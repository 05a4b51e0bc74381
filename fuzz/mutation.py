"""Changes to a message that keep it a message: one field somewhere in it is set, cleared, repeated or dropped."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

Shake = Callable[[bytes], bytes]
"""Changes raw bytes in any way."""

_INTEGERS: Final = tuple(
    edge + step for bits in (0, 7, 8, 16, 24, 31, 32, 63, 64) for edge in (1 << bits,) for step in (-1, 0, 1)
)
_FLOATS: Final = (0.0, -0.0, -1.0, 0.5, 1.0, 1e308, 5e-324, float("inf"), float("-inf"), float("nan"))
_RANGES: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
}


def mutate_serialised(kind: type[Message], data: bytes, chance: random.Random, shake: Shake) -> bytes:
    """Return the serialised message with one change; any bytes when it is none."""
    try:
        message = kind.FromString(data)
    except DecodeError:
        return shake(data)
    _mutate(chance.choice(list(_nodes(message))), chance, shake)
    return message.SerializeToString()


def _nodes(message: Message) -> Iterator[Message]:
    """Yield a message and all that are set inside it."""
    yield message
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for each in value if field.is_repeated else (value,):
                yield from _nodes(each)


def _mutate(node: Message, chance: random.Random, shake: Shake) -> None:
    fields: Any = node.DESCRIPTOR.fields  # the two implementations of protobuf have a type each
    if not fields:
        return
    field = chance.choice(fields)
    if chance.random() < 0.1:
        node.ClearField(field.name)
    elif field.is_repeated:
        _mutate_list(getattr(node, field.name), field, chance, shake)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        getattr(node, field.name).SetInParent()
    else:
        setattr(node, field.name, _value(field, getattr(node, field.name), chance, shake))


def _mutate_list(values: Any, field: FieldDescriptor, chance: random.Random, shake: Shake) -> None:
    nested = field.type == FieldDescriptor.TYPE_MESSAGE
    position = chance.randrange(len(values)) if values else 0
    choice = chance.randrange(3) if values else 0
    if choice == 0:
        old = values[position] if values else None
        if nested:
            values.add().MergeFrom(old) if values else values.add()
        else:
            values.append(_value(field, old, chance, shake) if old is None or chance.random() < 0.5 else old)
    elif choice == 1:
        del values[position]
    elif nested:
        _mutate(values[position], chance, shake)
    else:
        values[position] = _value(field, values[position], chance, shake)


def _value(field: FieldDescriptor, old: Any, chance: random.Random, shake: Shake) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return shake((old or "").encode()).decode(errors="replace")
    if field.type == FieldDescriptor.TYPE_BYTES:
        return shake(old or b"")
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return chance.random() < 0.5
    if field.enum_type is not None:
        return chance.randrange(len(field.enum_type.values) + 2)
    if field.cpp_type in _RANGES:
        low, high = _RANGES[field.cpp_type]
        near = (old or 0) + chance.choice((-1, 1))
        return min(high, max(low, near if chance.random() < 0.5 else chance.choice(_INTEGERS)))
    return chance.choice(_FLOATS)
