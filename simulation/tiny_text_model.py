"""A random BERT, of two layers unless told otherwise, with a word-list tokenizer, like a downloaded model's folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel

WORDS = ("hose", "burst", "engine", "start", "pump", "leak", "cab", "door", "not", "the")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
HIDDEN = 16


def write_tiny_model(
    folder: Path, *, seed: int = 7, hidden: int = HIDDEN, layers: int = 2, positions: int = 32
) -> Path:
    """Write config, weights and tokenizer; the weights follow from `seed`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = AutoConfig.for_model(
        "bert",
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=positions,
        initializer_range=0.5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        AutoModel.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    (folder / "vocab.txt").write_text("\n".join(SPECIAL + WORDS) + "\n", encoding="utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": positions}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder
