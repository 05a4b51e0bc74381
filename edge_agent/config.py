"""The agent's configuration file: its keys, its defaults, and the commented text that `enroll` writes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, Field, model_validator

from edge_agent.host.shifts import parse_shift
from edge_agent.host.verdict import HostTerms
from edge_agent.identity.reach import check_address
from edge_agent.storage.share import DiskShare
from ravan.configuration import STRICT, load_file, nearest_name, read_text
from ravan.data.contents import Duplicates
from ravan.data.source import QUERIES, DataKind, DecimalMark, Encoding, TableFormat
from ravan.database_url import check_url
from ravan.errors import ConfigError, DataError, ErrorReason
from ravan.logs import LogTable
from ravan.manifest.assignment import BUNDLE_FLOOR, MAX_GROUP
from ravan.tracing.settings import TracingTable
from ravan.way_out import check_proxy

FILE_NAME: Final = "agent.toml"
CREATE_COMMAND: Final = "ravan-agent enroll JOIN_STRING --dir DIR"

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def _model_digest(text: str) -> str:
    if not _DIGEST.fullmatch(text):
        raise ValueError("a model's digest is 64 lower-case hexadecimal digits")
    return text


def _owner_key(text: str) -> str:
    if text and not _DIGEST.fullmatch(text):
        raise ValueError("an owner's key is 64 lower-case hexadecimal digits")
    return text


class AgentTable(BaseModel):
    """The process and its folders, and what of the PC it may use."""

    model_config = STRICT

    identity_dir: Path = Path("identity")
    """Keys and certificate; relative to the configuration file, like the other folders."""
    cache_dir: Path = Path("cache")
    """Base models and model versions, by hash."""
    state_dir: Path = Path("state")
    """Measurements, masked updates on their way, and the rounds that this site took part in."""
    threads: int = Field(default=0, ge=0, le=1024)
    """Processor threads for training; 0 takes half of the cores."""
    ram_limit_mb: int = Field(default=0, ge=0)
    """Most memory of the agent in MiB; 0 leaves it to the system's own limits."""
    upload_kib_per_s: int = Field(default=0, ge=0)
    """Most KiB a second that uploads may take; 0 means no limit."""
    download_kib_per_s: int = Field(default=0, ge=0)
    """Most KiB a second that downloads may take; 0 means no limit."""
    disk_limit_mb: int = Field(default=0, ge=0)
    """Most MiB that models, versions and unfinished rounds may take; 0 leaves it to the disk."""
    unload_after_s: int = Field(default=600, ge=0)
    """Seconds without work after which the base model's memory is given back; 0 keeps it."""
    checkpoint_s: int = Field(default=30, ge=1, le=3600)
    """Seconds between two checkpoints of training, which a power failure costs at most."""
    coordinators: tuple[Annotated[str, AfterValidator(check_address)], ...] = ()
    """Further addresses of the coordinator, tried in turn: HOST, HOST:SITE_PORT or HOST:SITE_PORT:ENROLMENT_PORT."""
    proxy: Annotated[str, AfterValidator(check_proxy)] = ""
    """HTTP proxy that lets connections out; empty: what the environment's `https_proxy` says, if anything."""
    proxy_password_file: Path | None = None
    """File with the proxy's password; relative to the configuration file."""
    proxy_password_variable: str = ""
    """Environment variable with the proxy's password, where no file holds it."""

    def disk_share(self) -> DiskShare:
        """Return what the agent may take of the disk."""
        return DiskShare(limit_bytes=self.disk_limit_mb << 20, folders=(self.cache_dir, self.state_dir))

    def beside(self, home: Path) -> AgentTable:
        """Return the same with paths that are absolute, relative ones being meant from a folder."""
        places = {key: getattr(self, key) for key in ("identity_dir", "cache_dir", "state_dir", "proxy_password_file")}
        return self.model_copy(update={key: home / place for key, place in places.items() if place is not None})


def _shift(text: str) -> str:
    parse_shift(text)
    return text


class HostTable(BaseModel):
    """When training stands aside for the PC's own work."""

    model_config = STRICT

    low_priority: bool = True
    """Whether training yields to other programs that want the processor."""
    pause_when_busy: float = Field(default=0.0, ge=0, le=1)
    """Share of all cores that other programs may take before training pauses; 0 never pauses for it."""
    train_on_battery: bool = False
    """Whether training goes on while the PC runs on battery."""
    pause_above_celsius: float = Field(default=95.0, ge=0, le=200)
    """Temperature of the hottest sensor above which training pauses; 0 never pauses for it."""
    keep_free_mb: int = Field(default=256, ge=0)
    """Memory in MiB that stays available to other programs; below it less is trained."""
    shifts: tuple[Annotated[str, AfterValidator(_shift)], ...] = ()
    """Hours in which the PC may train, in its own time; empty allows any."""

    def terms(self) -> HostTerms:
        """Return what the PC is watched by."""
        return HostTerms(
            shifts=tuple(map(parse_shift, self.shifts)),
            on_battery=self.train_on_battery,
            celsius=self.pause_above_celsius,
            busy_share=self.pause_when_busy,
        )


class PolicyTable(BaseModel):
    """What this site agrees to."""

    model_config = STRICT

    minimum_bundle_threshold: int = Field(default=BUNDLE_FLOOR, ge=BUNDLE_FLOOR, le=MAX_GROUP)
    """Least sites whose sum may be unmasked; a job that asks for fewer is refused."""
    allowed_models: tuple[Annotated[str, AfterValidator(_model_digest)], ...] = ()
    """Digests of base models in hex; empty allows any."""
    allowed_jobs: tuple[str, ...] = ()
    """Names of jobs; empty allows any."""
    minimum_steps: int = Field(default=1, ge=1)
    """Least training steps in a round; a job that asks for fewer is refused."""
    minimum_examples: int = Field(default=10, ge=1)
    """Least examples to take part with; with fewer, an update shows too much of each of them."""
    owner_key: Annotated[str, AfterValidator(_owner_key)] = ""
    """Public key in hex of the plants' owner; rounds with a site that it has not endorsed are refused."""


class DataTable(BaseModel):
    """One file, folder or query of examples."""

    model_config = STRICT

    path: Path | None = None
    """Relative to the configuration file; a PostgreSQL server has none."""
    kind: DataKind = DataKind.TEXTS
    """What one example is."""
    format: TableFormat = TableFormat.CSV
    """How a table is written, or who is asked for it."""
    text: str = Field(default="text", min_length=1)
    """Name of the column that holds the texts."""
    label: str = Field(default="label", min_length=1)
    """Name of the column that holds the labels or answers."""
    group: str = ""
    """Name of the column that tells series apart; empty where all rows are one series."""
    columns: dict[str, str] = {}
    """Names of the columns of a model's channels, where they are called otherwise than the channels."""
    encoding: Encoding = Encoding.AUTO
    """How the characters of a text file are written."""
    separator: Literal["", ",", ";", "\t", "|"] = ""
    """Between the cells of a CSV table; empty: as its header tells."""
    decimal: DecimalMark = DecimalMark.POINT
    """What marks decimals in numbers that are written as text."""
    labels: str = ""
    """Images: CSV file in the folder that lists images and labels; empty: folders are named like labels."""
    file: str = Field(default="file", min_length=1)
    """Images: name of the column of that list that holds the images' names."""
    query: str = ""
    """Databases: the SELECT whose rows are the table."""
    url: Annotated[str, AfterValidator(check_url)] = ""
    """PostgreSQL: where the database is."""
    password_file: Path | None = None
    """PostgreSQL: file with the password; relative to the configuration file."""
    password_variable: str = ""
    """PostgreSQL: environment variable with the password, where no file holds it."""
    duplicates: Duplicates = Duplicates.KEEP
    """What becomes of examples that are there already."""
    validation_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the examples that is kept from learning."""

    @model_validator(mode="after")
    def _check_place(self) -> DataTable:
        server = self.kind is not DataKind.IMAGES and self.format is TableFormat.POSTGRESQL
        if server != bool(self.url):
            raise ValueError("url is missing" if server else 'url is for format = "postgresql" alone')
        if server == (self.path is not None):
            raise ValueError('path is not for format = "postgresql"' if server else "path is missing")
        asked = self.kind is not DataKind.IMAGES and self.format in QUERIES
        if asked != bool(self.query.strip()):
            raise ValueError("query is missing" if asked else "query is for databases alone")
        if self.labels and self.kind is not DataKind.IMAGES:
            raise ValueError('labels is for kind = "images" alone; the column of the labels is `label`')
        return self

    def beside(self, home: Path) -> DataTable:
        """Return the same with paths that are absolute, relative ones being meant from a folder."""
        places = {"path": self.path, "password_file": self.password_file}
        return self.model_copy(update={key: home / place for key, place in places.items() if place is not None})


class AgentFile(BaseModel):
    """A whole `agent.toml`."""

    model_config = STRICT

    agent: AgentTable = AgentTable()
    host: HostTable = HostTable()
    policy: PolicyTable = PolicyTable()
    data: dict[str, DataTable] = {}
    log: LogTable = LogTable()
    tracing: TracingTable = TracingTable()

    def data_table(self, name: str) -> DataTable:
        """Return what the site has under a name that a job asks for; raise DataError DATA_MISSING."""
        if name not in self.data:
            raise DataError(
                f"A job asks for the data '{name}', but this site's configuration has no [data.{name}].",
                reason=ErrorReason.DATA_MISSING,
                next_step=f"Add such a table; the sample shows its keys. {nearest_name(name, self.data)}",
            )
        return self.data[name]


def load_config(path: Path, environment: Mapping[str, str] | None = None) -> AgentFile:
    """Read the file; all paths in the result are absolute. Raises ConfigError."""
    config = load_file(AgentFile, path, create_with=CREATE_COMMAND, environment=environment)
    base = path.absolute().parent
    tables = {name: table.beside(base) for name, table in config.data.items()}
    changed = {
        "agent": config.agent.beside(base),
        "data": tables,
        "log": config.log.beside(base),
        "tracing": config.tracing.beside(base),
    }
    return config.model_copy(update=changed)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedConfig:
    """The configuration of a folder that is being enrolled."""

    text: str
    """To be written where there is no file yet."""
    settings: AgentFile


def prepare_config(path: Path, *, proxy: str, proxy_password_file: Path | None) -> PreparedConfig:
    """Return the configuration at `path`, or the one to write there, with this proxy; raise ConfigError."""
    if path.exists() and not proxy:
        return PreparedConfig(text="", settings=load_config(path))
    if path.exists():
        raise ConfigError(
            f"{path} is there already, and says by which proxy to go.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="Set `proxy` in its [agent] table, and leave --proxy away.",
        )
    text = SAMPLE
    if proxy:
        text = text.replace('# proxy = ""', f"proxy = {json.dumps(proxy)}")
    if proxy_password_file is not None:
        line = f"proxy_password_file = {json.dumps(str(proxy_password_file.absolute()))}"
        text = text.replace('# proxy_password_file = "proxy-password"', line)
    return PreparedConfig(text=text, settings=read_text(AgentFile, text, source="--proxy", environment=os.environ))


SAMPLE: Final = """\
# Configuration of ravan-agent. Keys that are commented out show their defaults.
# An environment variable RAVAN_TABLE_KEY wins over the file: RAVAN_AGENT_THREADS=2.
# Check it with: ravan-agent config check --config THIS_FILE

[agent]
# Folders of keys, downloaded models and unfinished work, relative to this file.
# identity_dir = "identity"
# cache_dir = "cache"
# state_dir = "state"
# Processor threads for training. 0 takes half of the cores, so that the PC stays usable.
# threads = 0
# Most memory of the agent in MiB. 0 leaves it to the system's own limits. The coordinator gives the PC as
# much to train as fits.
# ram_limit_mb = 0
# Most KiB a second that uploads may take. 0 means no limit.
# upload_kib_per_s = 0
# Most KiB a second that downloads may take, of base models above all. 0 means no limit.
# download_kib_per_s = 0
# Most MiB of the disk that cache_dir and state_dir may take: what no job needs is dropped, and a job that does not fit
# is left to other PCs. 0 leaves it to the disk.
# disk_limit_mb = 0
# Seconds without work after which the base model's memory is given back to the PC, until the next round. 0 keeps it.
# unload_after_s = 600
# Seconds between two checkpoints of training. After a power failure training goes on from the last one.
# checkpoint_s = 30
# Further addresses of the coordinator, tried in turn when the one in the join string does not answer: "HOST",
# "HOST:SITE_PORT" or "HOST:SITE_PORT:ENROLMENT_PORT". Its certificate has to name each of them.
# coordinators = []
# HTTP proxy that lets connections out, such as "http://USER@proxy.example:3128". Its password stands in a file of its
# own, or in an environment variable of this name. Empty: what https_proxy and no_proxy in the environment say.
# proxy = ""
# proxy_password_file = "proxy-password"
# proxy_password_variable = ""

[host]
# Training yields to other programs that want the processor.
# low_priority = true
# Share of all cores that other programs may take before training pauses, such as 0.5. 0 never pauses for it.
# pause_when_busy = 0.0
# Whether training goes on while the PC runs on battery.
# train_on_battery = false
# Temperature of the hottest sensor above which training pauses. 0 never pauses for it.
# pause_above_celsius = 95.0
# Memory in MiB that stays available to other programs. When it gets short, this PC trains less.
# keep_free_mb = 256
# Hours in which this PC may train, in its own time, such as ["mon-fri 18:00-06:00", "sat-sun 00:00-24:00"]. Empty: any.
# shifts = []

[policy]
# Least number of sites whose updates are added up before anybody sees the sum. At least 3.
# minimum_bundle_threshold = 3
# Base models that may be trained here, by digest, and jobs, by name. Empty lists allow all.
# allowed_models = []
# allowed_jobs = []
# Least training steps in a round. After few steps an update shows more of the few examples behind it.
# minimum_steps = 1
# Least examples to learn from. With fewer, an update shows too much of each of them, and this PC takes part in no job.
# minimum_examples = 10
# Public key of the plants' owner, as `ravan-agent owner create` printed it. When it is set, this PC takes part in
# no round with a site whose identity the owner has not endorsed.
# owner_key = ""

[log]
# "text" for people, "json" for collectors, "auto" chooses by whether the output is a terminal.
# format = "auto"
# "debug", "info" or "warning".
# level = "info"
# A file for the log beside standard error, such as "ravan.log"; relative to this one, empty for none. When it is max_mb
# long a new one is begun, and count full ones are kept.
# file = ""
# max_mb = 10
# count = 5

[tracing]
# Address of an OpenTelemetry collector (OTLP over gRPC) that takes the times of this site's steps in rounds:
# "https://HOST:4317", or "http://127.0.0.1:4317" on this PC; no proxy is used. Empty sends nothing to anybody but the
# coordinator. It takes `pip install 'ravan[tracing]'`.
# endpoint = ""
# Certificate of the authority that the collector's comes from, PEM, relative to this file. Empty: the system's.
# ca_file = ""

# The data of this site, one table for each name that jobs ask for. They are read here and never leave the PC.
# Check them with: ravan-agent data check
# [data.work-orders]
# The file or folder, relative to this one.
# path = "/path/to/work-orders.csv"
# "texts": a table with a text and a label in each row. "images": a folder, or a zip file of it, with one folder for
# each label. "series": a table of sensor values in the order of time, with a label in each row.
# kind = "texts"
# Tables: "csv" (with a header row), "jsonl" (one JSON object a line), "parquet", "sqlite", "postgresql".
# format = "csv"
# Tables: names of the columns.
# text = "description"
# label = "subsystem"
# Series: the column that tells them apart, such as one of the machine. Empty: all rows are one series.
# group = ""
# Series: by channel of the model, the column that holds it, where that is called otherwise.
# columns = {}
# CSV and JSON Lines: "auto" reads UTF-8, and UTF-16 with a byte order mark. Others have to be named, since bytes do not
# tell them apart: "cp932" (Japanese Windows), "windows-1252" (Western European Windows), "latin-1".
# encoding = "auto"
# CSV: what separates cells. Empty: comma, semicolon or tab, as the header tells.
# separator = ""
# Series: what marks decimals, "." or ",".
# decimal = "."
# Images: a CSV file in the folder that names images and labels, in these columns. Empty: folders are named like labels.
# labels = ""
# file = "file"
# Databases: the SELECT whose rows are the table. It can only read.
# query = ""
# PostgreSQL: where the database is, such as "postgresql://reader@server:5432/maintenance", instead of a path. Its
# password stands in a file of its own, or in an environment variable of this name.
# url = ""
# password_file = "database-password"
# password_variable = ""
# "keep" or "drop" examples that are there already, with the same label.
# duplicates = "keep"
# Share of the examples that nothing is learnt from, chosen by their content, so that the same ones stay apart.
# validation_share = 0.0
"""
