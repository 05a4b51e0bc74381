"""Who is there, as a pure machine: streams and heartbeats in, arrivals and losses out. Time is an argument.

A site is there from the moment its stream opens until it is lost: its stream ended and did not come
back within `silence_s`, or the stream stands but no heartbeat came for three intervals and `silence_s`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ravan.errors import ErrorReason, IdentityError
from ravan.ids import SiteId

MISSED_HEARTBEATS: Final = 3
"""Heartbeats that a connected site may miss before its silence counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a site may be silent."""

    heartbeat_interval_s: float
    silence_s: float

    @property
    def connected_s(self) -> float:
        """Silence after which a site is lost although its stream stands."""
        return MISSED_HEARTBEATS * self.heartbeat_interval_s + self.silence_s


@dataclass(slots=True, kw_only=True)
class _Member:
    process_id: bytes
    stream: int
    """Number of its newest stream."""
    connected: bool
    last_seen: float
    detached_at: float = 0.0


class Presence:
    """Keep track of processes and streams, at most one process a site."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._members: dict[SiteId, _Member] = {}
        self._streams = 0

    def attach(self, site: SiteId, process_id: bytes, now: float) -> int:
        """Open a stream and return its number; an older stream of the same process is superseded.

        Raises IdentityError (IDENTITY_IN_USE) while another process of this site is connected and alive.
        """
        member = self._members.get(site)
        if member is not None and member.process_id != process_id and self._is_alive(member, now):
            raise _in_use(site)
        self._streams += 1
        self._members[site] = _Member(process_id=process_id, stream=self._streams, connected=True, last_seen=now)
        return self._streams

    def expect(self, site: SiteId, process_id: bytes, until: float) -> None:
        """Count a process as gone only for a while, lost at `until` unless it comes back."""
        detached_at = until - self._patience.silence_s
        self._members[site] = _Member(
            process_id=process_id, stream=0, connected=False, last_seen=detached_at, detached_at=detached_at
        )

    def detach(self, site: SiteId, stream: int, now: float) -> None:
        """Note that a stream ended; one that was superseded changes nothing."""
        member = self._members.get(site)
        if member is not None and member.stream == stream and member.connected:
            member.connected = False
            member.detached_at = now

    def hear(self, site: SiteId, process_id: bytes, now: float) -> None:
        """Note a sign of life; raise IdentityError (IDENTITY_IN_USE) when it comes from another process.

        A process without a stream (it is about to open one) counts as nothing.
        """
        member = self._members.get(site)
        if member is None:
            return
        if member.process_id != process_id:
            raise _in_use(site)
        member.last_seen = now

    def remove(self, site: SiteId) -> None:
        """Forget a site, as when it is revoked."""
        self._members.pop(site, None)

    def take_lost(self, now: float) -> tuple[SiteId, ...]:
        """Forget and return the sites whose silence is over the limit."""
        lost = tuple(site for site, member in self._members.items() if self._deadline(member) <= now)
        for site in lost:
            del self._members[site]
        return lost

    def next_deadline(self) -> float | None:
        """Return when the next site is lost if nothing is heard; None without sites."""
        return min((self._deadline(member) for member in self._members.values()), default=None)

    def is_current(self, site: SiteId, stream: int) -> bool:
        """Tell whether this stream is the site's newest and the site was not removed or lost."""
        member = self._members.get(site)
        return member is not None and member.stream == stream

    def process_of(self, site: SiteId) -> bytes | None:
        """Return the process that the site runs; None when it is not there."""
        member = self._members.get(site)
        return member.process_id if member is not None else None

    def connected(self) -> tuple[SiteId, ...]:
        """Return the sites whose stream stands; one that may still come back is not among them."""
        return tuple(site for site, member in self._members.items() if member.connected)

    def _is_alive(self, member: _Member, now: float) -> bool:
        return member.connected and now - member.last_seen < self._patience.silence_s

    def _deadline(self, member: _Member) -> float:
        if member.connected:
            return member.last_seen + self._patience.connected_s
        return member.detached_at + self._patience.silence_s


def _in_use(site: SiteId) -> IdentityError:
    return IdentityError(
        f"Another agent is connected as {site}.",
        reason=ErrorReason.IDENTITY_IN_USE,
        next_step="Stop the other agent, or enrol this PC with a token of its own: "
        "`ravan-coordinator token create --site NAME`.",
    )
