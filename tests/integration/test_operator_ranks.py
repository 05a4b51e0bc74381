"""What each rank of operators may call: every method of the service, walked from its descriptor."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from grpc import StatusCode, aio
from identity_ports import call_raw, client, site_port, wire_services

from coordinator.enrolment.pki import Pki, create_pki
from ravan.errors import ErrorReason
from ravan.identity.certificates import Rank, Role
from ravan.rpc.ranks import RANKS, needed_rank
from ravan.rpc.status import error_from_rpc

NOW = time.time()
METHODS = [method for service in wire_services() if service.name == "OperatorService" for method in service.methods]
SEEN_BY_ALL = {"ListSites", "ListModels", "ListJobs", "GetJob", "WatchJob"}
FOR_ADMINISTRATORS = {"CreateToken", "RevokeSite", "EndorseSite"}
"""Written down here once more; what is in neither runs jobs."""


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return create_pki(tmp_path / "pki", ["hq.example"], now=NOW)


def may_call(rank: Rank | None, name: str) -> bool:
    if rank in (None, Rank.ADMIN):
        return True
    return name in SEEN_BY_ALL or (rank is Rank.OPERATOR and name not in FOR_ADMINISTRATORS)


@pytest.mark.parametrize("rank", [None, *Rank])
async def test_a_rank_reaches_what_it_may_and_nothing_else(pki: Pki, rank: Rank | None) -> None:
    reached: list[str] = []
    async with (
        site_port(pki, reached) as port,
        client(pki, Role.OPERATOR, "mia", port, now=NOW, rank=rank) as channel,
    ):
        for method in METHODS:
            if may_call(rank, method.name):
                await call_raw(channel, method)
                continue
            with pytest.raises(aio.AioRpcError) as caught:
                await call_raw(channel, method)
            assert caught.value.code() is StatusCode.PERMISSION_DENIED, method.name
            error = error_from_rpc(caught.value, address="hq:1", authority="CA")
            assert error.reason is ErrorReason.PERMISSION_DENIED
            assert "mia is a" in str(error)
            assert "operator create mia --role" in error.next_step
    assert reached == [method.full_name for method in METHODS if may_call(rank, method.name)]


@pytest.mark.parametrize("role", [Role.AGENT, Role.COORDINATOR])
async def test_a_rank_makes_an_operator_of_nobody_else(pki: Pki, role: Role) -> None:
    reached: list[str] = []
    async with (
        site_port(pki, reached) as port,
        client(pki, role, "mia", port, now=NOW, rank=Rank.ADMIN) as channel,
    ):
        for method in METHODS:
            with pytest.raises(aio.AioRpcError) as caught:
                await call_raw(channel, method)
            assert caught.value.code() is StatusCode.PERMISSION_DENIED
    assert reached == []


def test_every_method_has_a_rank_and_an_unknown_one_the_highest() -> None:
    assert set(RANKS) == {method.name for method in METHODS}
    assert needed_rank("/ravan.wire.v1.OperatorService/EraseEverything") is Rank.ADMIN
    assert needed_rank("/other.Service/GetJob") is Rank.ADMIN
