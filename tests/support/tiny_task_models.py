"""Random models of every kind that jobs train beside texts, like downloaded models' folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from ravan.manifest.plan import Task
from simulation.tiny_text_model import SPECIAL, WORDS, write_tiny_model

DINOV2_SIDE = 42
WINDOW = 8


def write_tiny_dinov2(folder: Path) -> Path:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": DINOV2_SIDE}
    _write(folder, AutoModel, "dinov2", patch_size=14, initializer_range=0.5, **sizes)
    return _write_preprocessor(
        folder, {"size": DINOV2_SIDE, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]}
    )


def write_tiny_patchtst(folder: Path) -> Path:
    sizes = {"d_model": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 24}
    _write(
        folder,
        AutoModel,
        "patchtst",
        num_input_channels=2,
        context_length=WINDOW,
        patch_length=4,
        patch_stride=4,
        **sizes,
    )
    return _write_preprocessor(folder, {"channels": ["oil", "rpm"], "mean": [1.0, 2.0], "std": [3.0, 4.0]})


def write_tiny_llama(folder: Path) -> Path:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    vocabulary = len(SPECIAL) + len(WORDS)
    tokens = {"vocab_size": vocabulary, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    _write(folder, AutoModelForCausalLM, "llama", max_position_embeddings=32, initializer_range=0.5, **tokens, **sizes)
    (folder / "vocab.txt").write_text("\n".join(SPECIAL + WORDS) + "\n", encoding="utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "model_max_length": 32, "eos_token": "[SEP]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def _write(folder: Path, loader: Any, kind: str, **settings: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        loader.from_config(AutoConfig.for_model(kind, **settings)).save_pretrained(folder)


def _write_preprocessor(folder: Path, document: dict[str, Any]) -> Path:
    (folder / "preprocessor_config.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


FOLDERS: dict[Task, Callable[[Path], Path]] = {
    Task.SEQUENCE_CLASSIFICATION: write_tiny_model,
    Task.IMAGE_CLASSIFICATION: write_tiny_dinov2,
    Task.SERIES_CLASSIFICATION: write_tiny_patchtst,
    Task.CAUSAL_LM: write_tiny_llama,
}


class NoExamples:
    """What a worst case does not look at."""
