"""Where a daemon really listens, and the file by which commands on its machine find it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from coordinator.config import ServerTable
from ravan.identity.keyfiles import write_private
from ravan.rpc.addresses import target_of


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundPorts:
    """Ports of one process."""

    enrolment_port: int
    site_port: int
    http_port: int

    def addresses(self, server: ServerTable) -> tuple[tuple[str, str], ...]:
        """Return what listens where, for people."""
        scheme = "http" if server.http_tls == "none" else "https"
        return (
            ("enrolment", target_of(server.listen, self.enrolment_port)),
            ("agents", target_of(server.listen, self.site_port)),
            ("http", f"{scheme}://{target_of(server.http_listen, self.http_port)}"),
        )

    def write_to(self, path: Path) -> None:
        """Tell this machine's commands, which cannot know what the system chose; raise ResourceError (DISK_FULL)."""
        tell_ports(path, {"pid": os.getpid(), "started_at": time.time(), **asdict(self)})


def tell_ports(path: Path, content: Mapping[str, float]) -> None:
    """Write where the daemon listens; raise ResourceError (DISK_FULL), leaving nothing half written."""
    write_private(path, f"{json.dumps(content)}\n".encode())


def forget_ports(path: Path) -> None:
    """Remove what this process has told; another on the same folder tells its own."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if told.get("pid") == os.getpid():
        path.unlink(missing_ok=True)
