"""The coordinator's configuration file: its keys, its defaults, and the commented text that `init` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, Field

from ravan.configuration import STRICT, load_file
from ravan.logs import LogTable

FILE_NAME: Final = "coordinator.toml"
CREATE_COMMAND: Final = "ravan-coordinator init DIR --host NAME"

Port = Annotated[int, Field(ge=0, le=65535)]


class ServerTable(BaseModel):
    """Addresses, ports and the data folder."""

    model_config = STRICT

    hosts: tuple[str, ...] = Field(min_length=1)
    """Names of this machine as agents reach it; the first goes into join strings."""
    listen: str = "0.0.0.0"  # noqa: S104 - agents come from other machines, and both ports are TLS
    enrolment_port: Port = 8440
    site_port: Port = 8443
    http_listen: str = "127.0.0.1"
    http_port: Port = 9464
    data_dir: Path = Path()
    """Relative to the configuration file."""


class FleetTable(BaseModel):
    """Signs of life."""

    model_config = STRICT

    heartbeat_interval_s: int = Field(default=5, ge=1, le=3600)
    silence_s: float = Field(default=15, gt=0, le=86_400)


class EvaluationTable(BaseModel):
    """The worker process that evaluates models."""

    model_config = STRICT

    threads: int = Field(default=1, ge=1, le=1024)


class CoordinatorFile(BaseModel):
    """A whole `coordinator.toml`."""

    model_config = STRICT

    server: ServerTable
    fleet: FleetTable = FleetTable()
    evaluation: EvaluationTable = EvaluationTable()
    log: LogTable = LogTable()


class DataFolder:
    """Where things lie under the data folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.pki = root / "pki"
        self.database = root / "ravan.db"
        self.blobs = root / "blobs"
        self.staging = root / "staging"
        self.work = root / "work"
        self.lock = root / "daemon.lock"
        self.ports = root / "daemon.json"


def load_config(path: Path, environment: Mapping[str, str] | None = None) -> CoordinatorFile:
    """Read the file; the data folder in the result is absolute. Raises ConfigError."""
    config = load_file(CoordinatorFile, path, create_with=CREATE_COMMAND, environment=environment)
    folder = (path.absolute().parent / config.server.data_dir).resolve()
    return config.model_copy(update={"server": config.server.model_copy(update={"data_dir": folder})})


def write_sample(hosts: Sequence[str]) -> str:
    """Return the text of a new configuration file: every key, its default, and what it is for."""
    names = json.dumps(list(hosts), ensure_ascii=False)
    return SAMPLE.replace("@HOSTS@", names)


SAMPLE: Final = """\
# Configuration of ravan-coordinator. Keys that are commented out show their defaults.
# An environment variable RAVAN_TABLE_KEY wins over the file: RAVAN_SERVER_SITE_PORT=9443.
# Check it with: ravan-coordinator config check --config THIS_FILE

[server]
# Names (or IP addresses) by which agents reach this machine. The first goes into join strings.
# The server certificate holds the names given to `init`; a name added here later needs a new certificate.
hosts = @HOSTS@
# Address on which enrolment and agents are served. 127.0.0.1 serves this machine alone.
# listen = "0.0.0.0"
# Port for enrolment (TLS and a one-time token). 0 lets the system choose.
# enrolment_port = 8440
# Port for agents and operators (TLS with client certificates).
# site_port = 8443
# Address and port of /metrics, /healthz, /readyz and /status. Beyond loopback /status is not shown.
# http_listen = "127.0.0.1"
# http_port = 9464
# Folder of keys, database, models and updates, relative to this file.
# data_dir = "."

[fleet]
# Seconds between the heartbeats that agents are asked for.
# heartbeat_interval_s = 5
# Seconds after which a site whose connection ended counts as lost. A site whose connection stands
# without heartbeats is lost after three intervals more.
# silence_s = 15

[evaluation]
# Processor threads of the worker that evaluates models.
# threads = 1

[log]
# "text" for people, "json" for collectors, "auto" chooses by whether the output is a terminal.
# format = "auto"
# "debug", "info" or "warning".
# level = "info"
"""
