"""Both programs on a path of their own, as an installation would put them there."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

PROGRAMS: Final = {"ravan-coordinator": "coordinator", "ravan-agent": "edge_agent"}


def put_on_path(folder: Path) -> str:
    """Write a script for each program into `folder`, and return a PATH that begins with it."""
    for program, module in PROGRAMS.items():
        file = folder / program
        file.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        file.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"
