"""Import the daemon's modules in less time: half of its start is nothing else."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Leave out what imports do beside importing, for the length of the block.

    No garbage is collected: modules make none, and each collection looks at all that is there. What they made is
    never looked at again, which shortens the pauses of the daemon as well. structlog does without rich, which it would
    only use for traces in colour; our logs have none.
    """
    rich = sys.modules.get("rich")
    gc.disable()
    try:
        if rich is None:
            sys.modules["rich"] = None  # type: ignore[assignment] # how the import system says: there is none
        yield
    finally:
        if rich is None:
            sys.modules.pop("rich", None)
        gc.freeze()
        gc.enable()
