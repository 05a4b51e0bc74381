"""Real disks that run full: mounted where only root may, so nobody else can run what needs one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted_disk(place: Path, size: str) -> Iterator[Path]:
    """Mount a disk of this size, such as `4m`, on a new folder while the block runs."""
    if os.geteuid():
        pytest.skip("mounting needs root")
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        # A process that still runs in there is somebody else's to end.
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> Path:
    """Take the last byte of a disk; return the file that has it."""
    filler = place / "filler"
    with filler.open("ab", buffering=0) as file:
        while True:
            try:
                file.write(bytes(1024))
            except OSError:
                break
    assert shutil.disk_usage(place).free == 0
    return filler
