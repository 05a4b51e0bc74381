"""How a benchmark tells what it does and what it found."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

RESULTS: Final = Path("bench-results.jsonl")
"""Where every run is appended, in the working folder."""

Figure = float | int | str | bool | None


def say(sentence: str) -> None:
    """Print progress at once."""
    print(sentence, flush=True)


def publish(target: str, figures: Mapping[str, object]) -> None:
    """Print the figures as one JSON object, the last line, and append them to `RESULTS`."""
    record = {
        "target": target,
        "time": round(time.time()),
        "machine": {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()},
        **figures,
    }
    line = json.dumps(record)
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
