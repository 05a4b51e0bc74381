"""The files of a base model as an operator sends them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
from safetensors.numpy import save

from coordinator.jobs.models import check_model_files
from coordinator.jobs.tensorfile import parse_header
from fuzz.target import Format, Target, join_parts, require, split_parts
from ravan.errors import ErrorReason, ModelError
from ravan.model_files import CONFIG, INDEX, WEIGHTS
from ravan.wire.v1 import operator_service_pb2

_SIZE_BYTES: Final = 4
_WORDS: Final = (
    *("dtype", "shape", "data_offsets", "__metadata__", "weight_map", "model_type", "auto_map"),
    *("F32", "F16", "BOOL", "\\ud800", "\\n", "NaN", "null", "true", "[]", "{}", "9223372036854775807"),
)
_SHARD: Final = "model-00001-of-00001.safetensors"


def _read_header(data: bytes) -> None:
    payload_bytes = int.from_bytes(data[:_SIZE_BYTES], "big")
    tensors = parse_header(data[_SIZE_BYTES:], payload_bytes)
    require(sum(each.end - each.begin for each in tensors) == payload_bytes, "tensors do not cover their file")


def _read_whole(data: bytes) -> None:
    _read_folder((CONFIG, WEIGHTS), data)


def _read_sharded(data: bytes) -> None:
    _read_folder((CONFIG, _SHARD, INDEX), data)


def _read_folder(names: tuple[str, ...], data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / name for name in names}
        for path, content in zip(files.values(), [*split_parts(data), *[b""] * len(names)], strict=False):
            path.write_bytes(content)
        facts = check_model_files(files)
    # operators see both, and both go into the database
    wire = operator_service_pb2.Model(model_type=facts.model_type, parameters=facts.parameters)
    require(wire.parameters < 1 << 63, "a model has more numbers than can be stored")
    require(facts.model_type.isprintable(), "a model's type upsets a terminal")


def _weights() -> bytes:
    return save({"w": np.zeros((2, 3), np.float32), "b": np.zeros(2, np.float16)})


def _headers() -> Iterable[bytes]:
    weights = _weights()
    length = int.from_bytes(weights[:8], "little")
    yield (len(weights) - 8 - length).to_bytes(_SIZE_BYTES, "big") + weights[8 : 8 + length]


def _folders() -> Iterable[bytes]:
    yield join_parts(b'{"model_type": "bert"}', _weights())


def _sharded() -> Iterable[bytes]:
    index = json.dumps({"weight_map": {"w": _SHARD, "b": _SHARD}}).encode()
    yield join_parts(b'{"model_type": "bert"}', _weights(), index)


MODEL_FILES: Final = Target(
    name="model-files",
    formats=(
        Format(name="header", read=_read_header, seeds=_headers, words=_WORDS),
        Format(name="folder", read=_read_whole, seeds=_folders, words=_WORDS),
        Format(name="sharded folder", read=_read_sharded, seeds=_sharded, words=_WORDS),
    ),
    refusals={ModelError: frozenset({ErrorReason.MODEL_INVALID})},
)
