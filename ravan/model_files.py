"""Which files a base model may consist of, by name: checked when it is taken in, and again by every site."""

from __future__ import annotations

import re
from typing import Final

CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
JSON_FILES: Final = frozenset(
    {
        CONFIG,
        INDEX,
        "added_tokens.json",
        "generation_config.json",
        "preprocessor_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    }
)
WORD_LISTS: Final = frozenset({"merges.txt", "vocab.txt"})

_SHARD: Final = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")


def is_model_file(name: str) -> bool:
    """Tell whether a model may have a file of this name: safetensors, JSON and word lists only.

    Pickles and Python files can run code when they are loaded, and an adapter's configuration makes
    libraries load another base model than the one whose digest was agreed on.
    """
    return name in JSON_FILES or name in WORD_LISTS or name == WEIGHTS or _SHARD.fullmatch(name) is not None
