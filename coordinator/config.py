"""The coordinator's configuration file: its keys, its defaults, and the commented text that `init` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from coordinator.enrolment.pki import ServerFiles
from ravan.configuration import STRICT, load_file
from ravan.database_url import check_url
from ravan.logs import LogTable
from ravan.releases import checked_release
from ravan.tracing.settings import TracingTable

FILE_NAME: Final = "coordinator.toml"
CREATE_COMMAND: Final = "ravan-coordinator init DIR --host NAME"

Port = Annotated[int, Field(ge=0, le=65535)]


class ServerTable(BaseModel):
    """Addresses, ports and the data folder."""

    model_config = STRICT

    hosts: tuple[str, ...] = Field(min_length=1)
    """Names of this machine as agents reach it; the first goes into join strings."""
    peer_host: str = ""
    """Name by which other processes of this coordinator reach this one; empty: the first of `hosts`."""
    listen: str = "0.0.0.0"  # noqa: S104 - agents come from other machines, and both ports are TLS
    enrolment_port: Port = 8440
    site_port: Port = 8443
    http_listen: str = "127.0.0.1"
    http_port: Port = 9464
    http_tls: Literal["none", "mutual"] = "none"
    """`mutual`: TLS with the server certificate; whoever shows an operator's certificate sees everything."""
    data_dir: Path = Path()
    """Relative to the configuration file."""
    certificate: str = ""
    """Server certificate of the operator's own, relative to the configuration file; empty: the one that `init` made."""
    key: str = ""

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key of the server are given together or not at all")
        return self


class FleetTable(BaseModel):
    """Signs of life, and whose agents will do."""

    model_config = STRICT

    heartbeat_interval_s: int = Field(default=5, ge=1, le=3600)
    silence_s: float = Field(default=15, gt=0, le=86_400)
    minimum_agent_version: Annotated[str, AfterValidator(checked_release)] = ""
    """Oldest agent that takes part in rounds; empty: any."""


class SchedulingTable(BaseModel):
    """Jobs side by side."""

    model_config = STRICT

    jobs_at_once: int = Field(default=0, ge=0)
    """0: all that are submitted."""


class EnrolmentTable(BaseModel):
    """Certificates of sites."""

    model_config = STRICT

    certificate_days: int = Field(default=30, ge=1, le=730)
    """Life of a site's certificate; agents renew it by themselves at two thirds."""
    renewal_grace_days: int = Field(default=90, ge=0, le=730)
    """How long after its end a site may still renew it, as it proves its identity key."""


class EvaluationTable(BaseModel):
    """The worker process that evaluates models."""

    model_config = STRICT

    threads: int = Field(default=1, ge=1, le=1024)


class WorkersTable(BaseModel):
    """Who does the heavy work of rounds."""

    model_config = STRICT

    local: int = Field(default=4, ge=0, le=64)
    """Tasks at a time that the daemon does itself; 0 leaves all of them to `ravan-coordinator worker`."""


class DatabaseTable(BaseModel):
    """Where records are kept."""

    model_config = STRICT

    url: Annotated[str, AfterValidator(check_url)] = ""
    """`postgresql://USER@HOST:PORT/NAME`; empty: an SQLite file in the data folder."""
    password_file: str = ""
    """Relative to the configuration file."""


class ObjectsTable(BaseModel):
    """Where blobs are kept."""

    model_config = STRICT

    bucket: str = ""
    """Empty: a folder in the data folder."""
    prefix: str = ""
    endpoint: str = Field(default="", pattern="^(https?://.+)?$")
    """Empty: Amazon's own."""
    region: str = "us-east-1"
    access_key_id: str = ""
    secret_file: str = ""
    """Relative to the configuration file."""
    cache_mb: int = Field(default=20_480, ge=1)


class RetentionTable(BaseModel):
    """What is kept of the past."""

    model_config = STRICT

    versions: int = Field(default=100, ge=0)
    """Newest versions of each job, with their sums; 0 keeps all."""


class LimitsTable(BaseModel):
    """What is taken before it is refused; see `ravan.rpc.admission.CallLimits` and `coordinator.store.quota`."""

    model_config = STRICT

    calls: int = Field(default=4000, ge=16, le=100_000)
    streams: int = Field(default=1500, ge=1, le=100_000)
    site_calls: int = Field(default=16, ge=1, le=10_000)
    site_streams: int = Field(default=16, ge=2, le=10_000)
    """A site watches over one and sends over another."""
    site_uploads: int = Field(default=4, ge=1, le=10_000)
    site_calls_per_s: float = Field(default=50, gt=0, le=100_000)
    site_burst: int = Field(default=200, ge=8, le=100_000)
    operator_uploads: int = Field(default=4, ge=1, le=10_000)
    site_message_kib: int = Field(default=2048, ge=1280, le=4096)
    """A chunk of 1 MiB has to fit."""
    enrolment_message_kib: int = Field(default=64, ge=16, le=4096)
    disk_reserve_mb: int = Field(default=256, ge=0)
    data_mb: int = Field(default=0, ge=0)
    """Models, versions and uploads together; 0: as the disk holds."""


class CoordinatorFile(BaseModel):
    """A whole `coordinator.toml`."""

    model_config = STRICT

    server: ServerTable
    fleet: FleetTable = FleetTable()
    scheduling: SchedulingTable = SchedulingTable()
    enrolment: EnrolmentTable = EnrolmentTable()
    evaluation: EvaluationTable = EvaluationTable()
    workers: WorkersTable = WorkersTable()
    database: DatabaseTable = DatabaseTable()
    objects: ObjectsTable = ObjectsTable()
    retention: RetentionTable = RetentionTable()
    limits: LimitsTable = LimitsTable()
    log: LogTable = LogTable()
    tracing: TracingTable = TracingTable()


class DataFolder:
    """Where things lie under the data folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.pki = root / "pki"
        self.database = root / "ravan.db"
        self.blobs = root / "blobs"
        self.cache = root / "cache"
        self.staging = root / "staging"
        self.work = root / "work"
        self.lock = root / "daemon.lock"
        self.workers_lock = root / "workers.lock"
        self.ports = root / "daemon.json"


def load_config(path: Path, environment: Mapping[str, str] | None = None) -> CoordinatorFile:
    """Read the file; paths in the result are absolute. Raises ConfigError."""
    config = load_file(CoordinatorFile, path, create_with=CREATE_COMMAND, environment=environment)
    home = path.absolute().parent
    server, database, objects = config.server, config.database, config.objects
    absolute = {
        "server": server.model_copy(
            update={
                "data_dir": (home / server.data_dir).resolve(),
                "certificate": _beside(home, server.certificate),
                "key": _beside(home, server.key),
            }
        ),
        "database": database.model_copy(update={"password_file": _beside(home, database.password_file)}),
        "objects": objects.model_copy(update={"secret_file": _beside(home, objects.secret_file)}),
        "log": config.log.beside(home),
        "tracing": config.tracing.beside(home),
    }
    return config.model_copy(update=absolute)


def server_files(config: CoordinatorFile) -> ServerFiles | None:
    """Return where the operator's own server certificate lies, or None when it is the one of `init`."""
    if not config.server.certificate:
        return None
    return ServerFiles(certificate=Path(config.server.certificate), key=Path(config.server.key))


def _beside(home: Path, name: str) -> str:
    return str(home / name) if name else ""


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
# Name by which other `serve` processes of this coordinator reach this one on site_port, where that is not the first of
# `hosts`. The server certificate has to hold it. Empty: the first of `hosts`.
# peer_host = ""
# Address on which enrolment and agents are served. 127.0.0.1 serves this machine alone.
# listen = "0.0.0.0"
# Port for enrolment (TLS and a one-time token). 0 lets the system choose.
# enrolment_port = 8440
# Port for agents and operators (TLS with client certificates).
# site_port = 8443
# Address and port of /metrics, /healthz, /readyz and /status. Beyond loopback /status is shown over mutual TLS alone.
# http_listen = "127.0.0.1"
# http_port = 9464
# "mutual": https with the server certificate; /metrics and /status are for operators' certificates, of any role, and
# /healthz and /readyz also for whoever has none.
# http_tls = "none"
# Folder of keys, database, models and updates, relative to this file.
# data_dir = "."
# A server certificate of your own with its key, PEM, relative to this file. It has to come from the authority in
# pki/ca.crt and to name `hosts`. Replaced files are taken up at the next connection, without a restart.
# certificate = ""
# key = ""

[fleet]
# Seconds between the heartbeats that agents are asked for.
# heartbeat_interval_s = 5
# Seconds after which a site whose connection ended counts as lost. A site whose connection stands
# without heartbeats is lost after three intervals more.
# silence_s = 15
# Oldest version of the agent that is selected for rounds, such as "0.2.0". Sites with an older one, or one that tells
# no version, stay connected and are held back until they are upgraded. Empty lets every version take part.
# minimum_agent_version = ""

[scheduling]
# Jobs that run side by side; later ones are queued until one has ended or is paused. 0 queues none.
# jobs_at_once = 0

[enrolment]
# Days that the certificate of a site lasts. Agents renew it by themselves after two thirds of them.
# certificate_days = 30
# Days after its end for which a PC that was switched off may still renew it. Later it needs a new join string.
# renewal_grace_days = 90

[evaluation]
# Processor threads of the worker that evaluates models.
# threads = 1

[workers]
# Tasks (unmasking, combining, evaluating) that the daemon does at a time; beyond them, `ravan-coordinator worker`
# processes take some. 0 leaves all to such processes: without one no round ends.
# local = 4

[database]
# Address of a PostgreSQL database, postgresql://USER@HOST:PORT/NAME, that holds the records instead of the
# SQLite file in data_dir. It must exist and belong to the user; tables are made at the start.
# url = ""
# File with its password, relative to this one. Without it PGPASSWORD, PGPASSFILE and ~/.pgpass count.
# password_file = ""

[objects]
# Bucket of an S3-compatible store that holds models and versions instead of blobs/ in data_dir. It must exist.
# bucket = ""
# What the names of all objects begin with, for a bucket that others use as well.
# prefix = ""
# Address of the store, https://HOST:PORT. Empty: Amazon's own.
# endpoint = ""
# region = "us-east-1"
# Key, and file with its secret, relative to this file. Without them AWS_ACCESS_KEY_ID and
# AWS_SECRET_ACCESS_KEY count, or the role of the machine.
# access_key_id = ""
# secret_file = ""
# Room for copies in cache/ of data_dir: base models are read from there.
# cache_mb = 20480

[retention]
# Newest versions of each job's model that are kept, with the sums that they were made from. The most accurate
# version stays as well. 0 keeps all of them.
# versions = 100

[limits]
# Calls in progress on each port, and how many of them may be streams. Every connected site holds one stream.
# calls = 4000
# streams = 1500
# The same for one site, and how many of its streams may be uploads.
# site_calls = 16
# site_streams = 16
# site_uploads = 4
# Calls that one site may make in a second on average, and at once after a pause.
# site_calls_per_s = 50
# site_burst = 200
# Files that all operators together may be sending.
# operator_uploads = 4
# Longest message on the port for agents and operators, and on the port for enrolment.
# site_message_kib = 2048
# enrolment_message_kib = 64
# Room that uploads and models leave free on the disk of data_dir, so that records can still be written.
# disk_reserve_mb = 256
# Most that models, versions and uploads may take in data_dir. 0: as much as the disk holds.
# data_mb = 0

[log]
# "text" for people, "json" for collectors, "auto" chooses by whether the output is a terminal.
# format = "auto"
# "debug", "info" or "warning".
# level = "info"
# A file for the log beside standard error, such as "ravan.log"; relative to this one, empty for none. When it is max_mb
# long a new one is begun, and count full ones are kept. Workers write none; a second coordinator process needs one of
# its own (RAVAN_LOG_FILE).
# file = ""
# max_mb = 10
# count = 5

[tracing]
# Address of an OpenTelemetry collector (OTLP over gRPC) that takes the traces of rounds: "https://HOST:4317", or
# "http://127.0.0.1:4317" on this machine. Empty sends nothing. It takes `pip install 'ravan[tracing]'`.
# endpoint = ""
# Certificate of the authority that the collector's comes from, PEM, relative to this file. Empty: the system's.
# ca_file = ""
"""
