"""A lease that is kept on a real database: renewed in time, refused to others, lost and given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest

from coordinator.leases import succession
from coordinator.leases.fenced import FencedStore
from coordinator.leases.keeper import LeaseKeeper, process_name
from coordinator.leases.lease import ROUNDS, Claim, Lease, LeaseLost
from coordinator.leases.succession import Succession
from coordinator.store.base import Store, Transaction
from coordinator.store.records import TokenRecord
from coordinator.store.sql.store import MEMORY, open_store
from ravan.errors import ErrorReason, StateError
from ravan.ids import SiteId


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    opened = open_store(MEMORY)
    yield opened
    await opened.close()


def keeper_of(store: Store, holder: str, *, term_s: float = 60.0) -> LeaseKeeper:
    return LeaseKeeper(store, Claim(name=ROUNDS, holder=holder, address=f"{holder}:8443", term_s=term_s))


def token(token_id: str) -> TokenRecord:
    return TokenRecord(token_id=token_id, secret_hash=b"", site=SiteId("plant-a"), created_at=1.0, expires_at=2.0)


async def lease_in(store: Store) -> Lease:
    found = await store.transact("read", lambda t: t.get_lease(ROUNDS))
    assert found is not None
    return found


async def end_lease(store: Store) -> None:
    """Let time go by for the lease."""

    def work(transaction: Transaction) -> None:
        known = transaction.get_lease(ROUNDS)
        assert known is not None
        transaction.put_lease(replace(known, until=transaction.now() - 1))

    await store.transact("age", work)


async def test_a_lease_is_renewed_before_it_ends(store: Store) -> None:
    keeper = keeper_of(store, "one", term_s=0.3)
    assert await keeper.take() is None
    first = await lease_in(store)
    async with asyncio.timeout(20):
        while (await lease_in(store)).until < first.until + 0.5:  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.02)
    renewed = await lease_in(store)
    assert (renewed.fence, renewed.holder, renewed.taken_at) == (1, "one", first.taken_at)
    await keeper.give_back()


async def test_while_it_is_held_others_hear_who_holds_it(store: Store) -> None:
    first, second = keeper_of(store, "one"), keeper_of(store, "two")
    await first.take()
    holder = await second.take()
    assert holder is not None
    assert (holder.holder, holder.address) == ("one", "one:8443")
    with pytest.raises(LeaseLost):
        _ = second.held
    await first.give_back()
    assert await second.take() is None
    assert second.held.fence == 2
    await second.give_back()


async def test_a_holder_that_was_succeeded_writes_nothing(store: Store) -> None:
    first, second = keeper_of(store, "one"), keeper_of(store, "two")
    await first.take()
    fenced = FencedStore(store, first)
    await fenced.transact("write", lambda t: t.put_token(token("j1")))
    await end_lease(store)
    assert await second.take() is None
    with pytest.raises(LeaseLost, match="two at two:8443"):
        await fenced.transact("write", lambda t: t.put_token(token("j2")))
    assert first.lost.is_set()
    assert await store.transact("read", lambda t: t.get_token("j2")) is None
    await FencedStore(store, second).transact("write", lambda t: t.put_token(token("j2")))
    # It does not take away what is another's.
    await first.give_back()
    assert (await lease_in(store)).holder == "two"
    await second.give_back()


async def test_a_holder_without_successor_writes_after_its_term_and_holds_it_again(store: Store) -> None:
    keeper = keeper_of(store, "one")
    await keeper.take()
    await end_lease(store)
    await FencedStore(store, keeper).transact("write", lambda t: t.put_token(token("j1")))
    assert await keeper_of(store, "two").take() is not None
    assert not keeper.lost.is_set()
    await keeper.give_back()


async def test_a_keeper_notices_by_itself_that_it_was_succeeded(store: Store) -> None:
    first, second = keeper_of(store, "one", term_s=0.2), keeper_of(store, "two")
    await first.take()
    assert await second.take(holder_is_dead=True) is None
    async with asyncio.timeout(20):
        await first.lost.wait()
    await second.give_back()


@dataclass
class Diary:
    """What a process does as its turns come and go."""

    said: list[str] = field(default_factory=list)
    refuses: bool = False

    async def lead(self, keeper: LeaseKeeper) -> None:
        if self.refuses:
            raise StateError("Not today.", reason=ErrorReason.WRONG_STATE)
        self.said.append(f"leads under {keeper.held.fence}")

    async def stand_down(self) -> None:
        self.said.append("stands down")

    async def follow(self, leader: Lease) -> None:
        if self.said[-1:] != [f"follows {leader.holder}"]:
            self.said.append(f"follows {leader.holder}")

    async def until(self, sentence: str) -> None:
        async with asyncio.timeout(20):
            while self.said[-1:] != [sentence]:  # noqa: ASYNC110 - a diary rings no bell
                await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(succession, "LOOK_EVERY_S", 0.02)


async def test_a_process_leads_once_the_leader_is_gone_and_a_leader_that_is_succeeded_follows(store: Store) -> None:
    one, two = Diary(), Diary()
    first = Succession(one, lambda: keeper_of(store, "one", term_s=0.4))
    second = Succession(two, lambda: keeper_of(store, "two", term_s=0.4))
    await first.start(holder_is_dead=False)
    await second.start(holder_is_dead=False)
    assert (one.said, two.said) == (["leads under 1"], ["follows one"])
    await first.stop()
    assert one.said == ["leads under 1", "stands down"]
    await two.until("leads under 2")
    # Somebody who is sure that the holder is dead, and errs.
    usurper = keeper_of(store, "usurper", term_s=0.4)
    await usurper.take(holder_is_dead=True)
    await two.until("follows usurper")
    assert two.said == ["follows one", "leads under 2", "stands down", "follows usurper"]
    await usurper.give_back()
    await two.until("leads under 4")
    await second.stop()


async def test_a_holder_that_died_is_succeeded_when_its_term_is_over(store: Store) -> None:
    dead, heir = keeper_of(store, "dead", term_s=0.6), Diary()
    await dead.take()
    assert dead._task is not None
    dead._task.cancel()
    turns = Succession(heir, lambda: keeper_of(store, "heir"))
    await turns.start(holder_is_dead=False)
    assert heir.said == ["follows dead"]
    await heir.until("leads under 2")
    await turns.stop()


async def test_who_cannot_begin_to_lead_leaves_the_lease_to_others(store: Store) -> None:
    turns = Succession(Diary(refuses=True), lambda: keeper_of(store, "one"))
    with pytest.raises(StateError, match="Not today"):
        await turns.start(holder_is_dead=False)
    able = Diary()
    other = Succession(able, lambda: keeper_of(store, "two"))
    await other.start(holder_is_dead=False)
    assert able.said == ["leads under 2"]
    await other.stop()


def test_no_two_processes_have_one_name() -> None:
    assert process_name() != process_name()
