"""What a causal language model says next: always the likeliest token, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


@torch.inference_mode()
def continue_greedily(model: Any, prompt: Sequence[int], *, end: int, limit: int) -> list[int]:
    """Return the tokens after a prompt, at most `limit` of them, up to `end` and without it."""
    said: list[int] = []
    given, past = [*prompt], None
    while len(said) < limit:
        outputs = model(input_ids=torch.tensor([given]), past_key_values=past, use_cache=True)
        token = int(outputs.logits[0, -1].float().argmax())
        if token == end:
            break
        said.append(token)
        past = getattr(outputs, "past_key_values", None)
        # Models that keep nothing between two tokens read everything again.
        given = [*prompt, *said] if past is None else [token]
    return said
