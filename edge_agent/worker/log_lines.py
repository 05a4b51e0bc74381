"""Lines of the worker's log, sent to the agent: one process alone writes the file."""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import structlog

from edge_agent.worker.messages import LogLine
from ravan.logs import mask_arguments
from ravan.redaction import redact_line

Send = Callable[[LogLine], None]

_PLAIN: Final = (str, int, float, bool, type(None))

_LEVELS: Final = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
"""Libraries may have others between them."""

_TAKEN: Final = frozenset({"level", "event"})
"""Names that no fact may have where a line is written."""


def send_logs(send: Send, level: int) -> None:
    """Have structlog and the standard library send their lines from `level` on, in this process."""

    def forward(_logger: Any, method: str, line: MutableMapping[str, Any]) -> Any:
        name, event = str(line.pop("logger", "")), str(line.pop("event", ""))
        send(LogLine(level=_number(method), logger=name, event=event, facts=_plain(line)))
        raise structlog.DropEvent

    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            redact_line,
            structlog.stdlib.add_logger_name,
            structlog.processors.format_exc_info,
            forward,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Sender(send)]
    root.setLevel(level)


def write_line(line: LogLine) -> None:
    """Write a line of the worker's into the agent's log."""
    level = max((each for each in _LEVELS if each <= line.level), default=logging.DEBUG)
    structlog.stdlib.get_logger(line.logger).log(level, line.event, **line.facts)


class _Sender(logging.Handler):
    """What libraries say."""

    def __init__(self, send: Send) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        mask_arguments(record)
        trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
        facts = {"exception": trace} if trace else {}
        self._send(LogLine(level=record.levelno, logger=record.name, event=record.getMessage(), facts=facts))


def _number(method: str) -> int:
    return logging.getLevelNamesMapping().get({"exception": "ERROR"}.get(method, method.upper()), logging.INFO)


def _plain(line: MutableMapping[str, Any]) -> dict[str, Any]:
    """Return facts that need no class of ours to be unpacked."""
    named = {f"{key}_" if key in _TAKEN else key: value for key, value in line.items()}
    return {key: value if isinstance(value, _PLAIN) else str(value) for key, value in named.items()}
