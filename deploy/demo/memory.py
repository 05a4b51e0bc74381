"""Hold a process to a memory limit: a control group where one can be made, else a resource limit."""

from __future__ import annotations

import os
import resource
from abc import ABC, abstractmethod
from pathlib import Path

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")


class MemoryCage(ABC):
    """Limit the processes that are started through `wrap`."""

    kind: str

    @abstractmethod
    def wrap(self, command: list[str]) -> list[str]:
        """Return a command line that runs `command` inside the cage from its first instruction."""

    @abstractmethod
    def resize(self, limit_mb: int, pid: int) -> None:
        """Change the limit of what runs, as a busy PC would."""

    def close(self) -> None:  # noqa: B027 - most cages leave nothing behind
        """Remove what the cage left on the machine, once nothing runs inside."""


class CgroupCage(MemoryCage):
    """A control group of its own; exceeding it ends in the kernel's out-of-memory killer."""

    def __init__(self, folder: Path, limit_file: str, limit_mb: int) -> None:
        folder.mkdir(exist_ok=True)
        self.kind = "cgroup"
        self._folder, self._limit_file = folder, limit_file
        self._write(limit_mb)

    def wrap(self, command: list[str]) -> list[str]:
        """Enter the group in a shell that then becomes the command."""
        return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(self._folder), *command]

    def resize(self, limit_mb: int, pid: int) -> None:  # noqa: ARG002 - the group holds the process already
        """Write the new limit into the group."""
        self._write(limit_mb)

    def close(self) -> None:
        """Remove the group."""
        try:
            self._folder.rmdir()
        except OSError:
            return

    def _write(self, limit_mb: int) -> None:
        (self._folder / self._limit_file).write_text(str(limit_mb << 20))


class RlimitCage(MemoryCage):
    """A limit on private memory of the process; exceeding it ends in a MemoryError."""

    def __init__(self, limit_mb: int) -> None:
        self.kind = "rlimit"
        self._limit_mb = limit_mb

    def wrap(self, command: list[str]) -> list[str]:
        """Set the limit in a shell that then becomes the command."""
        return ["sh", "-c", 'ulimit -S -d "$0" && exec "$@"', str(self._limit_mb << 10), *command]

    def resize(self, limit_mb: int, pid: int) -> None:
        """Change the limit of the running process."""
        self._limit_mb = limit_mb
        _, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
        resource.prlimit(pid, resource.RLIMIT_DATA, (limit_mb << 20, hard))


def build_cage(name: str, limit_mb: int) -> MemoryCage:
    """Make the strongest cage that this machine allows."""
    group = f"ravan-demo-{os.getpid()}-{name}"
    for parent, limit_file in ((_V1, "memory.limit_in_bytes"), (_V2, "memory.max")):
        try:
            if not _holds_memory(parent):
                continue
            return CgroupCage(parent / group, limit_file, limit_mb)
        except OSError:
            continue
    return RlimitCage(limit_mb)


def _holds_memory(parent: Path) -> bool:
    if parent == _V2:
        controllers = parent / "cgroup.subtree_control"
        return controllers.exists() and "memory" in controllers.read_text().split()
    return (parent / "memory.limit_in_bytes").exists()
