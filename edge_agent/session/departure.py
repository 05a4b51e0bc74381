"""Leaving the federation for good: the coordinator revokes the certificate, then the keys go."""

from __future__ import annotations

from pathlib import Path

from edge_agent.identity.keystore import load_identity, remove_identity
from edge_agent.identity.lock import hold_identity
from edge_agent.identity.reach import STRAIGHT, Reach
from edge_agent.session.connection import Coordinator
from ravan.errors import ErrorReason, RavanError


async def depart(folder: Path, reach: Reach = STRAIGHT, *, tell: bool) -> None:
    """Have the certificate revoked unless `tell` is off, and delete the identity; repeating it is safe.

    Nothing is deleted when the coordinator could not be told. Raises IdentityError (IDENTITY_IN_USE) while an agent
    runs, which leaves its round when it is ended, and RavanError when the coordinator does not take it.
    """
    identity = load_identity(folder)
    with hold_identity(folder):
        if tell:
            coordinator = Coordinator(identity, reach)
            try:
                await _withdraw(coordinator)
            finally:
                await coordinator.close()
        remove_identity(folder)


async def _withdraw(coordinator: Coordinator) -> None:
    try:
        await coordinator.withdraw()
    except RavanError as error:
        # an answer that was lost, or headquarters was faster
        if error.reason is not ErrorReason.IDENTITY_REVOKED:
            raise
