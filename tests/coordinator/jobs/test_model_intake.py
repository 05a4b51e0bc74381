"""Base models: what may enter, what is refused, and that garbage in a weights file is only ever refused."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_blobs import FolderBlobs
from numpy.typing import NDArray
from safetensors.numpy import save, save_file

from coordinator.jobs.models import check_model_files, collect_model_folder, record_model
from coordinator.jobs.tensorfile import parse_header, read_tensors
from deploy.demo.work_orders import installed_model
from ravan.errors import ErrorReason, ModelError, TransferError
from ravan.ids import Digest
from ravan.manifest.plan import ModelFile

TENSORS: dict[str, NDArray[Any]] = {"layer.weight": np.ones((3, 4), np.float32), "layer.bias": np.zeros(3, np.float16)}


def write_model(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "vocab.txt").write_text("[PAD]\nhose\n")
    save_file(TENSORS, folder / "model.safetensors")
    return folder


def write_shards(folder: Path) -> Path:
    write_model(folder)
    (folder / "model.safetensors").unlink()
    names = {key: f"model-{i:05}-of-00002.safetensors" for i, key in enumerate(TENSORS, start=1)}
    for key, name in names.items():
        save_file({key: TENSORS[key]}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return folder


def check(folder: Path) -> tuple[str, int]:
    facts = check_model_files({path.name: path for path in folder.iterdir()})
    return facts.model_type, facts.parameters


def test_a_model_in_one_file_and_in_shards(tmp_path: Path) -> None:
    assert check(write_model(tmp_path / "one")) == ("bert", 15)
    assert check(write_shards(tmp_path / "two")) == ("bert", 15)


def drop(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def put(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (put("pytorch_model.bin", "x"), "cannot have a file 'pytorch_model.bin'"),
        (put("modeling_bert.py", "x"), "cannot have a file 'modeling_bert.py'"),
        (drop("config.json"), "has no config.json"),
        (drop("model.safetensors"), "needs exactly model.safetensors"),
        (put("config.json", '{"model_type": "bert", "auto_map": {}}'), "config.json asks for code"),
        (put("tokenizer_config.json", '{"auto_map": {}}'), "tokenizer_config.json asks for code"),
        (put("config.json", "{}"), "does not say what kind"),
        (put("config.json", "[]"), "config.json is no JSON object"),
        (put("tokenizer.json", "[" * 100_000), "tokenizer.json is no JSON object"),
        (put("model.safetensors", "short"), "model.safetensors: The file is no sound safetensors file"),
        (put("model.safetensors.index.json", '{"weight_map": {}}'), "does not describe the shards"),
    ],
)
def test_what_may_not_enter_is_refused(tmp_path: Path, spoil: Callable[[Path], object], sentence: str) -> None:
    folder = write_model(tmp_path / "model")
    spoil(folder)
    with pytest.raises(ModelError) as caught:
        check(folder)
    assert sentence in str(caught.value)
    assert caught.value.reason is ErrorReason.MODEL_INVALID
    assert caught.value.next_step


def test_a_missing_shard_is_noticed(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "model")
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match="does not describe the shards"):
        check(folder)


def test_collecting_leaves_pickles_code_and_prose_behind(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    for name in ("pytorch_model.bin", "README.md", "handler.py", "modules.json"):
        (folder / name).write_text("x")
    (folder / "1_Pooling").mkdir()
    collected = collect_model_folder(folder)
    assert sorted(collected.files) == ["config.json", "model.safetensors", "vocab.txt"]
    assert collected.ignored == ("1_Pooling", "README.md", "handler.py", "modules.json", "pytorch_model.bin")


def test_collecting_from_a_folder_without_a_model_says_what_a_model_needs(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_text("x")
    with pytest.raises(ModelError, match="holds no model") as caught:
        collect_model_folder(tmp_path)
    assert "convert them to safetensors" in caught.value.next_step
    with pytest.raises(ModelError, match="There is no folder"):
        collect_model_folder(tmp_path / "nowhere")


def upload(folder: Path, blobs: FolderBlobs) -> list[ModelFile]:
    return [
        ModelFile(path=path.name, sha256=blobs.put(path.read_bytes()), size_bytes=path.stat().st_size)
        for path in folder.iterdir()
    ]


def test_a_record_names_the_files_in_order_whatever_the_order_of_upload(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path / "blobs")
    files = upload(write_model(tmp_path / "model"), blobs)
    record = record_model("minilm", files, blobs, 5.0)
    assert record == record_model("minilm", files[::-1], blobs, 5.0)
    assert [file.path for file in record.files] == ["config.json", "model.safetensors", "vocab.txt"]
    assert (record.model_type, record.parameters, record.added_at) == ("bert", 15, 5.0)


def test_a_record_is_refused_for_wrong_names_sizes_and_missing_blobs(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path / "blobs")
    files = upload(write_model(tmp_path / "model"), blobs)
    absent = ModelFile(path="vocab.json", sha256=Digest(bytes(32)), size_bytes=1)
    wrong_size = ModelFile(path=files[0].path, sha256=files[0].sha256, size_bytes=1)
    outside = ModelFile(path="../config.json", sha256=files[0].sha256, size_bytes=files[0].size_bytes)
    with pytest.raises(ModelError, match="is no name for a model"):
        record_model("../minilm", files, blobs, 5.0)
    with pytest.raises(ModelError, match="given twice"):
        record_model("minilm", [*files, files[0]], blobs, 5.0)
    with pytest.raises(ModelError, match="size that was announced"):
        record_model("minilm", [wrong_size, *files[1:]], blobs, 5.0)
    with pytest.raises(ModelError, match="cannot have a file"):
        record_model("minilm", [*files, outside], blobs, 5.0)
    with pytest.raises(TransferError):
        record_model("minilm", [*files, absent], blobs, 5.0)


def test_the_real_minilm_enters() -> None:
    collected = collect_model_folder(installed_model())
    facts = check_model_files(collected.files)
    assert facts.model_type == "bert"
    # 22.7 million is the published size of all-MiniLM-L6-v2; position ids are stored beside it.
    assert 22_600_000 < facts.parameters < 22_800_000
    assert "README.md" in collected.ignored


def header_of(data: bytes) -> tuple[bytes, bytes]:
    length = struct.unpack("<Q", data[:8])[0]
    return data[8 : 8 + length], data[8 + length :]


def test_the_parser_agrees_with_the_library() -> None:
    header, payload = header_of(save(TENSORS, metadata={"format": "pt"}))
    entries = {entry.name: (entry.dtype, entry.shape) for entry in parse_header(header, len(payload))}
    assert entries == {"layer.weight": ("F32", (3, 4)), "layer.bias": ("F16", (3,))}


@pytest.mark.parametrize(
    "header",
    [
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
        b'{"a": {"dtype": "X32", "shape": [2], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [true, 2], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [2]}}',
        b'{"a": {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        b"{}",
        b"[]",
        b"NaN",
    ],
)
def test_headers_that_lie_about_eight_bytes_are_refused(header: bytes) -> None:
    with pytest.raises(ModelError):
        parse_header(header, 8)


def test_a_header_length_beyond_the_file_is_refused_before_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(ModelError, match="does not fit the file"):
        read_tensors(path)


@given(st.binary(max_size=200), st.integers(0, 64))
def test_any_header_parses_or_is_refused(header: bytes, payload_bytes: int) -> None:
    assert_sound_or_refused(header, payload_bytes)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
tensor_values = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "U8", "X"]) | json_values,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | json_values,
        "data_offsets": st.lists(st.integers(-1, 32), min_size=2, max_size=2) | json_values,
    }
)


@given(st.dictionaries(st.text(max_size=5), tensor_values | json_values, max_size=4), st.integers(0, 64))
def test_any_near_miss_parses_or_is_refused(table: dict[str, object], payload_bytes: int) -> None:
    assert_sound_or_refused(json.dumps(table).encode(), payload_bytes)


def assert_sound_or_refused(header: bytes, payload_bytes: int) -> None:
    try:
        entries = parse_header(header, payload_bytes)
    except ModelError as error:
        refusal = error.reason
    else:
        assert sum(entry.end - entry.begin for entry in entries) == payload_bytes
        return
    assert refusal is ErrorReason.MODEL_INVALID
