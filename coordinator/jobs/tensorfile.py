"""The header of a safetensors file, parsed with every bound checked before anything is believed.

Layout: length of the header as u64 little-endian, the header as a JSON object of tensor name to type,
shape and byte range, then the numbers. Ranges must cover the rest of the file without gap or overlap.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ravan.errors import ErrorReason, ModelError

HEADER_LIMIT: Final = 32 << 20
"""Most bytes of a header that are parsed; that of a model of thousands of layers has a few."""

_LENGTH_BYTES: Final = 8
_DIMENSION_LIMIT: Final = 16
_TYPE_BITS: Final[Mapping[str, int]] = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """One tensor of a file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    """First byte after the header."""
    end: int

    @property
    def count(self) -> int:
        """Return how many numbers it has."""
        return math.prod(self.shape)


def read_tensors(path: Path) -> tuple[TensorEntry, ...]:
    """Read the header of a file; raise ModelError MODEL_INVALID when it is no sound safetensors file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if size < _LENGTH_BYTES or length > min(HEADER_LIMIT, size - _LENGTH_BYTES):
            raise _unsound("its header does not fit the file")
        return parse_header(file.read(length), size - _LENGTH_BYTES - length)


def parse_header(header: bytes, payload_bytes: int) -> tuple[TensorEntry, ...]:
    """Parse the JSON of a header before `payload_bytes` of numbers; raise ModelError MODEL_INVALID."""
    try:
        table = json.loads(header, object_pairs_hook=_without_repeats, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise _unsound("its header is no JSON object") from None
    if not isinstance(table, dict):
        raise _unsound("its header is no JSON object")
    entries = [_entry(name, value) for name, value in table.items() if name != "__metadata__"]
    entries.sort(key=lambda entry: (entry.begin, entry.end))
    position = 0
    for entry in entries:
        if entry.begin != position:
            raise _unsound("its tensors leave gaps or overlap")
        position = entry.end
    if position != payload_bytes:
        raise _unsound("it is cut off, or longer than its header says")
    return tuple(entries)


def _entry(name: str, value: object) -> TensorEntry:
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise _unsound("a tensor lacks type, shape or position")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _TYPE_BITS:
        raise _unsound("a tensor has an unknown type")
    if not _whole_numbers(shape) or len(shape) > _DIMENSION_LIMIT or not _whole_numbers(offsets) or len(offsets) != 2:
        raise _unsound("a tensor's shape or position is no list of whole numbers")
    entry = TensorEntry(name=name, dtype=dtype, shape=tuple(shape), begin=offsets[0], end=offsets[1])
    if (entry.end - entry.begin) * 8 != entry.count * _TYPE_BITS[dtype]:
        raise _unsound("a tensor's shape and length disagree")
    return entry


def _whole_numbers(value: object) -> bool:
    return isinstance(value, list) and all(type(each) is int and 0 <= each < 1 << 63 for each in value)


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name occurs twice")
    return table


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")


def _unsound(fault: str) -> ModelError:
    return ModelError(
        f"The file is no sound safetensors file: {fault}.",
        reason=ErrorReason.MODEL_INVALID,
        next_step="Fetch the model again, or convert it to safetensors.",
    )
