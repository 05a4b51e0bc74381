"""A lease: who holds what until when, under which number. Pure; the time is the database's.

Time decides only who may take a lease. Who may write is decided by the fencing number, which rises by one
each time the lease is taken: a holder that slept through its term writes nothing once there is a successor,
and loses nothing as long as there is none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from ravan.errors import ErrorReason, StateError

ROUNDS: Final = "rounds"
"""Name of the lease whose holder runs all jobs and rounds."""


class LeaseLost(StateError):  # noqa: N818 - what happened, as in the log
    """Somebody else holds the lease now; whoever led has to stop, and nothing that it tried was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A row of the table of leases."""

    name: str
    holder: str
    """Name of the process that took it last; empty when that gave it back."""
    address: str
    """Where its holder is reached by other processes, `host:port`."""
    fence: int
    """Rises by one each time the lease is taken, from 1."""
    taken_at: float
    until: float
    """Seconds since the epoch, as all times by the database's clock."""

    def is_live(self, now: float) -> bool:
        """Tell whether somebody holds it."""
        return bool(self.holder) and now < self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class Lead:
    """What is to be said of a lease at a moment."""

    lease: Lease | None
    now: float

    @property
    def is_live(self) -> bool:
        """Whether somebody holds it."""
        return self.lease is not None and self.lease.is_live(self.now)

    @property
    def since(self) -> float:
        """Since when it is held, or is not; 0 when it never was."""
        if self.lease is None:
            return 0.0
        return self.lease.taken_at if self.is_live else self.lease.until


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who wants which lease for how long at a time."""

    name: str
    holder: str
    address: str
    term_s: float


def take(known: Lease | None, claim: Claim, now: float, *, holder_is_dead: bool = False) -> Lease | None:
    """Return the lease as taken, or None while somebody else holds it.

    `holder_is_dead`: it is proven otherwise that the last holder cannot write any more.
    """
    if known is not None and known.is_live(now) and not holder_is_dead:
        return None
    return Lease(
        name=claim.name,
        holder=claim.holder,
        address=claim.address,
        fence=1 if known is None else known.fence + 1,
        taken_at=now,
        until=now + claim.term_s,
    )


def renew(known: Lease | None, held: Lease, now: float, term_s: float) -> Lease:
    """Return the lease with a new term, also after the old one when nobody has taken it since; raise LeaseLost."""
    require(known, held)
    return replace(held, until=now + term_s)


def give_back(known: Lease | None, held: Lease, now: float) -> Lease:
    """Return the lease as nobody's, so that the next need not wait for its end; raise LeaseLost."""
    require(known, held)
    return replace(held, holder="", until=now)


def require(known: Lease | None, held: Lease) -> None:
    """Raise LeaseLost unless the lease is still the one that was taken."""
    if known is None or (known.fence, known.holder) != (held.fence, held.holder):
        holder = "nobody" if known is None or not known.holder else f"{known.holder} at {known.address}"
        raise LeaseLost(
            f"This process does not hold the lease `{held.name}` any more: {holder} does.",
            # Calls that meet it come again, and reach the new holder.
            reason=ErrorReason.UNREACHABLE,
            next_step="Nothing to do: calls are repeated, and reach the process that holds it.",
        )
