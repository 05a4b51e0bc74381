"""The register remembers good certificates in the order in which the store took them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.enrolment.pki import Pki, create_pki
from coordinator.enrolment.registry import Application, Registry
from coordinator.store.base import Transaction
from coordinator.store.sql.store import MEMORY, SqlStore, open_store
from ravan.clock import ManualClock
from ravan.identity.certificates import Caller, Role
from ravan.identity.join import CoordinatorAddress, decode_invitation
from ravan.identity.keys import certificate_request, new_tls_key, raw_public
from ravan.identity.proof import sign_proof
from ravan.ids import SiteId

NOW = 1_700_000_000.0

Result = TypeVar("Result")


class LateAnswers:
    """A store whose first enrolment is done at once and answered when the test says so."""

    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self.done = asyncio.Event()
        self.answer = asyncio.Event()

    async def transact(self, name: str, work: Callable[[Transaction], Result]) -> Result:
        result = await self.store.transact(name, work)
        if name == "enrol" and not self.done.is_set():
            self.done.set()
            await self.answer.wait()
        return result

    async def close(self) -> None:
        await self.store.close()


async def application(registry: Registry, site: str, identity: Ed25519PrivateKey | None = None) -> Application:
    invitation = decode_invitation((await registry.create_token(site))[0])
    identity, request = identity or Ed25519PrivateKey.generate(), certificate_request(new_tls_key())
    return Application(
        token_id=invitation.token_id,
        token_secret=invitation.token_secret,
        tls_csr=request,
        identity_key=raw_public(identity),
        identity_proof=sign_proof(identity, token_id=invitation.token_id, tls_csr=request),
    )


def caller(serial: str) -> Caller:
    return Caller(role=Role.AGENT, name="north", serial=serial)


def open_registry(folder: Path) -> tuple[Registry, LateAnswers]:
    pki: Pki = create_pki(folder / "pki", ["hq.example"], now=NOW)
    store = LateAnswers(open_store(MEMORY))
    address = CoordinatorAddress(host="hq.example", enrolment_port=1, site_port=2)
    return Registry(store, pki, address, ManualClock(NOW)), store


async def test_a_certificate_that_was_replaced_meanwhile_is_not_good(tmp_path: Path) -> None:
    registry, store = open_registry(tmp_path)
    first = asyncio.create_task(registry.enrol(await application(registry, "north")))
    await store.done.wait()
    second = asyncio.create_task(registry.enrol(await application(registry, "north")))
    await asyncio.wait([second], timeout=0.2)
    store.answer.set()
    older, newer = await first, await second
    assert registry.is_revoked(caller(older.certificate_serial))
    assert not registry.is_revoked(caller(newer.certificate_serial))
    await store.close()


async def test_a_certificate_that_was_revoked_meanwhile_is_not_good(tmp_path: Path) -> None:
    registry, store = open_registry(tmp_path)
    enrolled = asyncio.create_task(registry.enrol(await application(registry, "north")))
    await store.done.wait()
    revoked = asyncio.create_task(registry.revoke(SiteId("north")))
    await asyncio.wait([revoked], timeout=0.2)
    store.answer.set()
    site = await enrolled
    await revoked
    assert registry.is_revoked(caller(site.certificate_serial))
    await store.close()
