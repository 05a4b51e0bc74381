"""Have this process reach no model hub: models come from folders."""

from __future__ import annotations

import os


def stay_offline() -> None:
    """Set what transformers and tokenizers go by; before they are imported.

    The tokenizer's own threads would compete with those that compute.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
