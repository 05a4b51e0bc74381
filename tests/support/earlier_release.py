"""Messages as the last release knew them, built from `proto/baseline.binpb`, and filled to the brim."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

BASELINE: Final = Path(__file__).parents[2] / "proto" / "baseline.binpb"

_DEPTH: Final = 4
"""Of messages within messages that are filled."""


class Release:
    """All messages of one set of descriptors."""

    def __init__(self, files: descriptor_pb2.FileDescriptorSet) -> None:
        self._pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            self._pool.Add(file)
        self.names = sorted(_names(files))

    def message(self, name: str) -> type[Message]:
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(name))


def last_release() -> Release:
    return Release(descriptor_pb2.FileDescriptorSet.FromString(BASELINE.read_bytes()))


def filled(kind: type[Message], *, choice: int = 0, depth: int = _DEPTH) -> Message:
    """Return a message with every field set to something that differs by field; of a oneof the `choice`-th."""
    message = kind()
    for field in _chosen_fields(kind, choice):
        _fill(message, field, choice, depth)
    return message


def choices(kind: type[Message]) -> int:
    """Return how many ways there are to fill the oneofs of a message, each member once."""
    return max((len(oneof.fields) for oneof in kind.DESCRIPTOR.oneofs), default=1)


def _chosen_fields(kind: type[Message], choice: int) -> Iterator[Any]:
    for field in kind.DESCRIPTOR.fields:
        oneof = field.containing_oneof
        if oneof is None or oneof.fields[choice % len(oneof.fields)] is field:
            yield field


def _fill(message: Any, field: FieldDescriptor, choice: int, depth: int) -> None:
    if field.message_type is not None:
        if depth:
            inner = filled(message_factory.GetMessageClass(field.message_type), choice=choice, depth=depth - 1)
            getattr(message, field.name).MergeFrom([inner] * 2 if field.is_repeated else inner)
        return
    value = _value(field)
    if field.is_repeated:
        getattr(message, field.name).extend([value, value])
    else:
        setattr(message, field.name, value)


def _value(field: FieldDescriptor) -> object:
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            text = f"{field.name} {field.number}"
            return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
        case FieldDescriptor.CPPTYPE_BOOL:
            return True
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return field.number + 0.5
        case _:
            return field.number + 1


def _names(files: descriptor_pb2.FileDescriptorSet) -> Iterator[str]:
    for file in files.file:
        yield from (f"{file.package}.{message.name}" for message in file.message_type)
