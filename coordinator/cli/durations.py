"""Times as operators write and read them: `24h`, `90 s`, `3 min ago`."""

from __future__ import annotations

import re
import time
from typing import Any, Final

import click

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_WRITTEN: Final = re.compile(r"(\d{1,9})([smhd])")


class Duration(click.ParamType[int]):
    """An option such as `--ttl 24h`; its value is in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return seconds, or end the command with a sentence."""
        if isinstance(value, int):
            return value
        found = _WRITTEN.fullmatch(value.strip().lower())
        if found is None or int(found[1]) == 0:
            self.fail(f"'{value}' is no duration; write 90s, 30m, 24h or 7d.", param, ctx)
        return int(found[1]) * _UNITS[found[2]]


def describe_seconds(seconds: float) -> str:
    """Return a length of time in its largest fitting unit."""
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit * 2:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def describe_moment(moment: float) -> str:
    """Return a time of this machine's day, with the date when it is not today's."""
    try:
        then = time.localtime(moment)
    except (OverflowError, ValueError, OSError):
        return "an impossible time"
    today = then[:3] == time.localtime()[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S", then)
