"""What a line of the log may show of a value. Pure.

Everything is masked that is not known to be harmless. Numbers, words and lists of them are shown; of bytes, arrays,
tensors and objects nothing but the kind. So a value that is logged by mistake shows nothing, whatever its `repr` says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, MutableMapping
from enum import Enum
from numbers import Integral, Real
from pathlib import PurePath
from typing import Any, Final

MASKED: Final = "(masked)"

_SECRET_NAME: Final = re.compile(
    r"(?:.*_)?(?:secret|password|passphrase|credential|seed|token|join_string|private_key|signing_key|shares?)s?",
    re.IGNORECASE,
)
_SECRET_TEXT: Final = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)|\bravan1\.[\w.~+/=-]+", re.DOTALL
)
"""A key in PEM, and a join string, which holds a token."""
_OWN: Final = frozenset({"exc_info", "stack_info", "_record", "_from_structlog"})
"""What the logging libraries pass on to themselves. Traces are written without local variables."""
_MOST_NUMBERS: Final = 16
"""More of them in a row are an update, an example or a key rather than a fact."""
_DEEPEST: Final = 4


def redact_line(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask what a line must not show; a processor of structlog's."""
    return {key: value if key in _OWN else _under(key, value, 0) for key, value in line.items()}


def mask_binary(value: object) -> object:
    """Return a value that a library puts into a sentence, or the kind of one that nobody can read."""
    return _kind(value) if _is_binary(value) else value


def _under(name: object, value: object, depth: int) -> Any:
    if isinstance(name, str) and _SECRET_NAME.fullmatch(name) and not isinstance(value, bool | None):
        return MASKED
    return _shown(value, depth)


def _shown(value: object, depth: int) -> Any:  # noqa: PLR0911 - one line a kind
    match value:
        case None | bool():
            return value
        case Enum():
            return _shown(value.value, depth)
        case str():
            return _SECRET_TEXT.sub(MASKED, value)
        case int() | float():
            return value
        case PurePath() | BaseException():
            return _SECRET_TEXT.sub(MASKED, str(value))
        case Real():
            return int(value) if isinstance(value, Integral) else float(value)
    if depth == _DEEPEST:
        return _kind(value)
    if isinstance(value, Mapping):
        return {_name(key): _under(key, each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return _listed(value, depth)
    return _kind(value)


def _listed(values: Iterable[object], depth: int) -> Any:
    shown = [_shown(each, depth + 1) for each in values]
    if len(shown) > _MOST_NUMBERS and any(isinstance(each, int | float) for each in shown):
        return f"<{len(shown)} entries>"
    # Positional arguments of a sentence have to stay a tuple.
    return tuple(shown) if isinstance(values, tuple) else shown


def _name(key: object) -> str:
    shown = _shown(key, _DEEPEST)
    return shown if isinstance(shown, str) else str(shown)


def _is_binary(value: object) -> bool:
    return isinstance(value, bytes | bytearray | memoryview) or (
        hasattr(value, "__array__") and not isinstance(value, Real)
    )


def _kind(value: object) -> str:
    return f"<{type(value).__name__}>"
