"""Waiting for a lease whose holder may be dead."""

from __future__ import annotations

import asyncio
from typing import Final

from coordinator.leases.keeper import LeaseKeeper
from coordinator.leases.lease import Lease
from ravan.errors import ErrorReason, StateError

LOOK_EVERY_S: Final = 1.0


async def await_lead(keeper: LeaseKeeper, *, holder_is_dead: bool) -> None:
    """Take the lease, once it has ended where its holder is silent; raise StateError when that renews it."""
    first: Lease | None = None
    while (holder := await keeper.take(holder_is_dead=holder_is_dead)) is not None:
        first = first or holder
        if holder.until != first.until:
            raise StateError(
                f"Another coordinator, {holder.holder} at {holder.address}, works with this database.",
                reason=ErrorReason.WRONG_STATE,
                next_step="Stop that one first, or use another database.",
            )
        await asyncio.sleep(LOOK_EVERY_S)
