"""Is there room, may the agent write where it has to, and is memory left? For `doctor`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge_agent.config import AgentFile
from edge_agent.finding import Finding
from edge_agent.hardware.limits import LimitReader
from edge_agent.storage.share import DiskShare, free_bytes

LEAST_DISK_BYTES: Final = 1 << 30
LEAST_STATE_BYTES: Final = 100 << 20
"""For the masked update of a round and what is written beside it."""
LEAST_MEMORY_BYTES: Final = 500 << 20
"""What the agent takes with its libraries and a small model loaded."""
LEAST_AVAILABLE_BYTES: Final = 100 << 20
"""With less, the PC swaps, whoever takes the memory."""


def check_machine(config: AgentFile) -> Iterator[Finding]:
    """Check folders, disks and memory; writes and removes an empty file in each folder."""
    agent = config.agent
    yield _check_folders((agent.identity_dir, agent.cache_dir, agent.state_dir))
    yield _check_disk(agent.cache_dir, agent.state_dir, agent.disk_share())
    yield _check_memory(LimitReader(configured_mb=agent.ram_limit_mb))


def _check_folders(folders: tuple[Path, ...]) -> Finding:
    for folder in folders:
        # A folder that is not there yet is made when it is needed.
        place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        try:
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as error:
            return Finding(
                name="folders",
                good=False,
                sentence=f"{place} cannot be written: {(error.strerror or str(error)).lower()}",
                remedy="Run the agent as the user who owns that folder, and see that its disk is sound and not full.",
            )
    return Finding(name="folders", good=True, sentence="keys, cache and state can be written")


def _check_disk(cache: Path, state: Path, share: DiskShare) -> Finding:
    free, beside = free_bytes(cache), free_bytes(state)
    sentence = f"{free >> 20} MiB free at {cache}, {beside >> 20} MiB at {state}"
    if share.limit_bytes:
        sentence += f"; the agent holds {share.used_bytes() >> 20} of {share.limit_bytes >> 20} MiB"
    good = free >= LEAST_DISK_BYTES and beside >= LEAST_STATE_BYTES
    remedy = "Free some space, or move cache_dir to a larger disk; a base model takes up to some GiB."
    return Finding(name="disk", good=good, sentence=sentence, remedy="" if good else remedy)


def _check_memory(limits: LimitReader) -> Finding:
    limit, available = limits.read(), limits.available_bytes()
    sentence = (
        f"the agent may use {limit.limit_bytes >> 20} MiB (limited by {limit.source});"
        f" {available >> 20} MiB of this PC are free now"
    )
    remedy = ""
    if limit.limit_bytes < LEAST_MEMORY_BYTES:
        remedy = f"Allow the agent {LEAST_MEMORY_BYTES >> 20} MiB or more."
    elif available < LEAST_AVAILABLE_BYTES:
        remedy = "Close other programs, or set ram_limit_mb in [agent] so that the agent takes less."
    return Finding(name="memory", good=not remedy, sentence=sentence, remedy=remedy)
