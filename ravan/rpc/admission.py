"""Admission control of one port: how many calls may be in progress, and how fast a site may make them. Pure.

Each site is held to limits of its own, so that what one does in excess takes nothing from the others. Operators
are few and trusted; they count in the port's totals alone, and in the uploads of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ravan.errors import ErrorReason, StateError
from ravan.identity.certificates import Caller, Role
from ravan.ids import SiteId

NEWS_EVERY_S: Final = 60.0
"""How often a site that exceeds its limits is worth a line of the log."""


class CallKind(StrEnum):
    """What a call keeps while it lasts."""

    UNARY = "unary"
    """One message, one answer."""
    STREAM = "stream"
    """A stream of answers."""
    UPLOAD = "upload"
    """A stream of requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """Most calls of one port; those that wait for nothing but their refusal do not count."""

    calls: int = 4000
    """In progress in all, streams included; a Watch is one for as long as its site is there, and a site that waits for
    its turn to upload has one more."""
    streams: int = 1500
    """In progress in all, uploads included; the rest of `calls` is free for what takes no time."""
    site_calls: int = 16
    """Unary calls in progress of one site."""
    site_streams: int = 16
    """Streams in progress of one site, uploads included."""
    site_uploads: int = 4
    """Uploads in progress of one site: one a round, and it may be in rounds of several jobs."""
    site_calls_per_s: float = 50.0
    """Calls of one site, streams included, over time."""
    site_burst: int = 200
    """Calls of one site at once after a pause."""
    operator_uploads: int = 4
    """Uploads in progress of all operators."""


class TokenBucket:
    """Let pass `rate` events a second on average, and `burst` at once after a pause."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        """Begin full."""
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._filled_at = now

    def take(self, now: float) -> bool:
        """Tell whether an event may pass; one that may not costs nothing, and a clock that goes back gives nothing."""
        self._tokens = min(float(self._burst), self._tokens + max(0.0, now - self._filled_at) * self._rate)
        self._filled_at = max(self._filled_at, now)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class _Ledger:
    """What one site has in progress."""

    def __init__(self, limits: CallLimits, now: float) -> None:
        self.bucket = TokenBucket(limits.site_calls_per_s, limits.site_burst, now)
        self.in_progress: Counter[CallKind] = Counter()
        self.told_at: float | None = None


class Admission:
    """Count the calls of one port and refuse those beyond its limits; time is an argument, in seconds."""

    def __init__(self, limits: CallLimits) -> None:
        self._limits = limits
        self._in_progress: Counter[CallKind] = Counter()
        self._operator_uploads = 0
        self._ledgers: dict[SiteId, _Ledger] = {}

    @contextmanager
    def enter(self, caller: Caller | None, kind: CallKind, now: float) -> Iterator[None]:
        """Count a call while the block lasts; raise StateError (TOO_MANY_CALLS) instead where a limit is reached.

        A refused call is not counted, but for a site that makes them too fast.
        """
        ledger = self._ledger_of(caller, now)
        if ledger is not None:
            self._check_site(ledger, kind, now)
        elif caller is not None and kind is CallKind.UPLOAD and self._operator_uploads >= self._limits.operator_uploads:
            raise _refused("Operators send as many files as may be sent at once", "limits.operator_uploads")
        self._check_port(kind)
        self._count(caller, ledger, kind, 1)
        try:
            yield
        finally:
            self._count(caller, ledger, kind, -1)

    def in_progress(self, site: SiteId | None = None) -> int:
        """Return the calls in progress, of one site or in all."""
        if site is None:
            return self._in_progress.total()
        ledger = self._ledgers.get(site)
        return 0 if ledger is None else ledger.in_progress.total()

    def is_news(self, caller: Caller, now: float) -> bool:
        """Tell whether a refusal of this site shall be said: the first one, and later ones now and then."""
        ledger = self._ledger_of(caller, now)
        if ledger is None or (ledger.told_at is not None and now - ledger.told_at < NEWS_EVERY_S):
            return False
        ledger.told_at = now
        return True

    def _ledger_of(self, caller: Caller | None, now: float) -> _Ledger | None:
        # Names come from certificates, so there are no more ledgers than enrolled sites.
        if caller is None or caller.role is not Role.AGENT:
            return None
        site = SiteId(caller.name)
        if site not in self._ledgers:
            self._ledgers[site] = _Ledger(self._limits, now)
        return self._ledgers[site]

    def _check_site(self, ledger: _Ledger, kind: CallKind, now: float) -> None:
        limits, counts = self._limits, ledger.in_progress
        if not ledger.bucket.take(now):
            raise _refused("This site makes calls faster than it may", "limits.site_calls_per_s")
        if kind is CallKind.UNARY and counts[CallKind.UNARY] >= limits.site_calls:
            raise _refused("This site has as many calls in progress as it may", "limits.site_calls")
        if kind is CallKind.UPLOAD and counts[CallKind.UPLOAD] >= limits.site_uploads:
            raise _refused("This site has as many uploads in progress as it may", "limits.site_uploads")
        if kind is not CallKind.UNARY and _streams(counts) >= limits.site_streams:
            raise _refused("This site has as many streams open as it may", "limits.site_streams")

    def _check_port(self, kind: CallKind) -> None:
        limits, counts = self._limits, self._in_progress
        if counts.total() >= limits.calls:
            raise _refused("The coordinator has as many calls in progress as it may", "limits.calls")
        if kind is not CallKind.UNARY and _streams(counts) >= limits.streams:
            raise _refused("The coordinator has as many streams open as it may", "limits.streams")

    def _count(self, caller: Caller | None, ledger: _Ledger | None, kind: CallKind, step: int) -> None:
        self._in_progress[kind] += step
        if ledger is not None:
            ledger.in_progress[kind] += step
        elif caller is not None and kind is CallKind.UPLOAD:
            self._operator_uploads += step


def _streams(counts: Counter[CallKind]) -> int:
    return counts[CallKind.STREAM] + counts[CallKind.UPLOAD]


def _refused(cause: str, key: str) -> StateError:
    return StateError(
        f"{cause}.",
        reason=ErrorReason.TOO_MANY_CALLS,
        next_step=f"Try again in a moment. If it recurs in normal use, raise `{key}` in coordinator.toml.",
    )
