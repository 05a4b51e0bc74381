"""How many connections and files the daemon may hold open."""

from __future__ import annotations

import resource
from contextlib import suppress


def allow_open_files() -> None:
    """Raise this process's limit as far as the system lets it: each agent takes one, and a unit starts with 1024."""
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if least != most:
        with suppress(OSError, ValueError):  # where "unlimited" is more than the kernel gives
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
