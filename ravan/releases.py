"""Which of two releases is the older, by the versions that programs tell of themselves. Pure.

Versions are written as Python's packages write them: `1.2.0`, `1.2.0rc1`, `1.2.0.dev3`, `1.2.0.post1`, `1.2.0+local`.
"""

from __future__ import annotations

import re
from typing import Final

from ravan.version import VERSION

Release = tuple[tuple[int, ...], tuple[int, int], int, int]
"""Compares as the releases do: numbers without zeros at the end, stage before the release, repair, development."""

_PATTERN: Final = re.compile(
    r"(?P<numbers>\d{1,9}(\.\d{1,9}){0,7})"
    r"((?P<stage>a|b|rc)(?P<nth>\d{1,9}))?"
    r"(\.post(?P<post>\d{1,9}))?"
    r"(\.dev(?P<dev>\d{1,9}))?"
    r"(\+[a-z0-9]+([._-][a-z0-9]+)*)?",
    re.ASCII,
)
_STAGES: Final = {"a": 0, "b": 1, "rc": 2}
_RELEASED: Final = 3
_IN_DEVELOPMENT: Final = -1
_DONE: Final = 1 << 30
"""Beyond every number of a development version."""


def parse_release(version: str) -> Release | None:
    """Return a version as something that compares, without what stands behind `+`; None for a text that is none."""
    found = _PATTERN.fullmatch(version)
    if found is None:
        return None
    numbers = [int(each) for each in found["numbers"].split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    post = -1 if found["post"] is None else int(found["post"])
    dev = _DONE if found["dev"] is None else int(found["dev"])
    return tuple(numbers), _stage(found["stage"], found["nth"], unfinished=post < 0 and dev < _DONE), post, dev


def is_older(version: str, minimum: str) -> bool:
    """Tell whether a program is older than the oldest that will do; one that tells no version counts as older.

    An empty minimum lets every version do. Raise ValueError for a minimum that is no version.
    """
    if not minimum:
        return False
    least, release = parse_release(checked_release(minimum)), parse_release(version)
    return release is None or least is None or release < least


def checked_release(text: str) -> str:
    """Return a text that is a version, or nothing; raise ValueError for any other."""
    if text and parse_release(text) is None:
        raise ValueError(f"{text[:40]!r} is no version; versions are written like {VERSION}")
    return text


def _stage(stage: str | None, nth: str | None, *, unfinished: bool) -> tuple[int, int]:
    if stage is not None:
        return _STAGES[stage], int(nth or 0)
    # Development towards a release comes before all of its stages.
    return (_IN_DEVELOPMENT, 0) if unfinished else (_RELEASED, 0)
