"""Take out of texts and settings whatever could be data, a key, a password or a place. Pure.

Everything is left out unless it is known to be harmless: a setting that is added later is redacted until somebody
decides otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Final

from pydantic import BaseModel

from edge_agent.config import AgentFile

LEFT_OUT: Final = "(left out)"
_QUOTED: Final = re.compile(r"(?<!\w)'.*'(?!\w)|\".*\"|‘.*’|“.*”", re.DOTALL)
"""From the first to the last quotation mark, since what is quoted may hold some; an apostrophe is none."""
_PATH: Final = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?[/\\][^\s,;]+")
_SHORTEST: Final = 3
"""Shorter values, such as one letter for a column, would take whole words apart."""


def redact_settings(value: Any) -> Any:
    """Return tables and numbers as they are, and of every text no more than whether it is set."""
    match value:
        case BaseModel():
            return {name: redact_settings(getattr(value, name)) for name in type(value).model_fields}
        case bool() | int() | float() | None:
            return value
        case Enum():
            return value.value
        case Mapping() if value and all(isinstance(each, BaseModel) for each in value.values()):
            return {name: redact_settings(each) for name, each in value.items()}
        case Mapping() | list() | tuple():
            return f"({len(value)} entries)"
    return LEFT_OUT if str(value) else ""


class Redactor:
    """Take quoted words, paths and the configuration's own words out of sentences."""

    def __init__(self, config: AgentFile) -> None:
        """Learn which words name data."""
        words = {word for table in config.data.values() for word in _texts(table) if len(word) >= _SHORTEST}
        longest_first = sorted(words, key=len, reverse=True)
        self._words = re.compile("|".join(map(re.escape, longest_first))) if words else None

    def clean(self, text: str) -> str:
        """Return the sentence without them."""
        text = _QUOTED.sub(LEFT_OUT, text)
        if self._words is not None:
            text = self._words.sub(LEFT_OUT, text)
        return _PATH.sub("(path)", text)


def _texts(value: Any) -> Iterable[str]:
    match value:
        case BaseModel():
            for name in type(value).model_fields:
                yield from _texts(getattr(value, name))
        case Mapping():
            for key, each in value.items():
                yield from (*_texts(key), *_texts(each))
        case bool() | int() | float() | Enum() | None:
            return
        case _:
            yield str(value)
