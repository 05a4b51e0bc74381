"""The log of a daemon, on standard error: for people on a terminal, JSON lines otherwise.

Traces show where something failed and never the values of local variables: those of an agent hold
round keys, shares and the site's texts, those of the coordinator hold shares of many sites.
"""

from __future__ import annotations

import logging
import sys
from enum import StrEnum
from typing import Any, Final

import structlog
from pydantic import BaseModel

from ravan.configuration import STRICT

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


def set_up_logs(settings: LogTable) -> None:
    """Send structlog and the standard library's records through one formatter."""
    as_json = settings.format is LogFormat.JSON or (settings.format is LogFormat.AUTO and not sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        # People compare with their own clock, collectors with other machines.
        structlog.processors.TimeStamper(fmt="iso" if as_json else "%H:%M:%S", utc=as_json),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.UnicodeDecoder(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(shared, as_json=as_json))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.value.upper())
    for name in _QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)


def _formatter(shared: list[Any], *, as_json: bool) -> logging.Formatter:
    last: list[Any]
    if as_json:
        # The library's own trace processors add local variables.
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        plain = structlog.dev.plain_traceback
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )
