"""The log of a daemon: on standard error, for people on a terminal, JSON lines otherwise; and in a file, if wanted.

What a line may show of a value is settled in `ravan.redaction`, before anything is made into text.

Traces show where something failed and never the values of local variables: those of an agent hold
round keys, shares and the site's texts, those of the coordinator hold shares of many sites.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from enum import StrEnum
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final

import structlog
from pydantic import BaseModel, Field

from ravan.configuration import STRICT
from ravan.identity.keyfiles import OWNER_ONLY, make_private_folder
from ravan.redaction import mask_binary, redact_line

_QUIET_LIBRARIES: Final = ("alembic", "sqlalchemy", "asyncio")
"""They report each of their steps, and mean nothing to who runs a daemon."""


class LogFormat(StrEnum):
    """How a daemon writes its log."""

    AUTO = "auto"
    """For people on a terminal, else JSON."""
    JSON = "json"
    TEXT = "text"


class LogLevel(StrEnum):
    """How much a daemon writes."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"


class LogTable(BaseModel):
    """The table `[log]` of a configuration file."""

    model_config = STRICT

    format: LogFormat = LogFormat.AUTO
    level: LogLevel = LogLevel.INFO
    file: str = ""
    """Written as well as standard error; relative to the configuration file, empty for none. Of one process alone."""
    max_mb: int = Field(default=10, ge=1)
    """Length at which a new file is begun."""
    count: int = Field(default=5, ge=1)
    """Full files that are kept, the newest as FILE.1."""

    def beside(self, home: Path) -> LogTable:
        """Return the same with a path that is absolute, a relative one being meant from a folder."""
        return self.model_copy(update={"file": str(home / self.file)}) if self.file else self

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the log file and the full ones, newest first, whether they are there or not; none if none is set."""
        numbered = (Path(f"{self.file}.{number}") for number in range(1, self.count + 1))
        return (Path(self.file), *numbered) if self.file else ()


class _PrivateFile(RotatingFileHandler):
    """A file of its owner's alone; one that cannot be written is no reason to stop, nor to say so at each line."""

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, OWNER_ONLY)
        return os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        pass


def set_up_logs(settings: LogTable) -> None:
    """Send structlog and the standard library's records through one formatter; raise OSError for an unusable file."""
    people = sys.stderr is not None and sys.stderr.isatty()
    as_json = settings.format is LogFormat.JSON or (settings.format is LogFormat.AUTO and not people)
    shared = _processors(as_json=as_json)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    root = logging.getLogger()
    for file in (each for each in root.handlers if isinstance(each, _PrivateFile)):
        file.close()
    root.handlers[:] = list(_handlers(settings, shared, as_json=as_json))
    root.setLevel(settings.level.value.upper())
    for name in _QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)


def mask_arguments(record: logging.LogRecord) -> bool:
    """Keep bytes and arrays out of the sentences of libraries; a filter that lets every record through."""
    if isinstance(record.args, tuple):
        record.args = tuple(map(mask_binary, record.args))
    elif record.args:
        record.args = {key: mask_binary(value) for key, value in record.args.items()}
    return True


def _processors(*, as_json: bool) -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        redact_line,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        # People compare with their own clock, collectors with other machines.
        structlog.processors.TimeStamper(fmt="iso" if as_json else "%H:%M:%S", utc=as_json),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.UnicodeDecoder(),
    ]


def _handlers(settings: LogTable, shared: list[Any], *, as_json: bool) -> Iterator[logging.Handler]:
    if sys.stderr is not None:  # a Windows service has none
        stream = logging.StreamHandler(sys.stderr)
        stream.setFormatter(_formatter(shared, as_json=as_json, colours=sys.stderr.isatty()))
        stream.addFilter(mask_arguments)
        yield stream
    if settings.file:
        make_private_folder(Path(settings.file).parent)
        file = _PrivateFile(settings.file, maxBytes=settings.max_mb << 20, backupCount=settings.count)
        file.setFormatter(_formatter(shared, as_json=as_json, colours=False))
        file.addFilter(mask_arguments)
        yield file


def _formatter(shared: list[Any], *, as_json: bool, colours: bool) -> logging.Formatter:
    last: list[Any]
    if as_json:
        # The library's own trace processors add local variables.
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        plain = structlog.dev.plain_traceback
        last = [structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain)]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )
