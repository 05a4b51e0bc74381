"""What a coordinator refuses only for now, an agent sends again; every other refusal is final."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from scripted_headquarters import Headquarters, enrol_by_hand, headquarters

from edge_agent.identity.keystore import load_identity
from edge_agent.session import reconnect
from edge_agent.session.connection import Coordinator
from ravan.codec.secagg_messages import Submission
from ravan.errors import ErrorReason, ProtocolError, RavanError, ResourceError, StateError
from ravan.ids import Digest, RunId
from ravan.manifest.instructions import RoundRef
from ravan.secagg.messages import SurvivorSignature

WAITS_FOR = (
    ResourceError("full", reason=ErrorReason.DISK_FULL),
    ResourceError("away", reason=ErrorReason.UNREACHABLE),
    StateError("many", reason=ErrorReason.TOO_MANY_CALLS),
)
FINAL = (
    StateError("behind", reason=ErrorReason.WRONG_STATE),
    ProtocolError("wrong", reason=ErrorReason.PROTOCOL_VIOLATION),
    StateError("fault", reason=ErrorReason.INTERNAL),
)
MESSAGE = Submission(
    round=RoundRef(
        run_id=RunId(bytes(16)),
        round_number=1,
        assignment_digest=Digest(bytes(32)),
        roster_digest=Digest(bytes(32)),
    ),
    index=0,
    message=SurvivorSignature(index=0, signature=bytes(64)),
)


def refusing(*errors: RavanError) -> tuple[Callable[[Submission], RavanError | None], list[RavanError]]:
    """Refuse with one error after the other, then take everything; also what is left to refuse with."""
    left = list(errors)
    return (lambda _: left.pop(0) if left else None), left


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "FIRST_S", 0.01)


@asynccontextmanager
async def talking(folder: Path) -> AsyncIterator[tuple[Headquarters, Coordinator]]:
    async with headquarters(folder / "hq") as hq:
        enrol_by_hand(hq.pki, hq.port, folder / "site")
        coordinator = Coordinator(load_identity(folder / "site" / "identity"))
        try:
            yield hq, coordinator
        finally:
            await coordinator.close()


async def test_a_message_is_sent_again_until_what_stands_in_its_way_has_passed(tmp_path: Path) -> None:
    async with talking(tmp_path) as (hq, coordinator):
        hq.refuse, left = refusing(*WAITS_FOR, *WAITS_FOR)
        await coordinator.submit(MESSAGE)
        assert left == []
        assert await hq.hear(Submission) == MESSAGE


@pytest.mark.parametrize("error", FINAL, ids=lambda error: error.reason)
async def test_any_other_refusal_is_final(tmp_path: Path, error: RavanError) -> None:
    async with talking(tmp_path) as (hq, coordinator):
        hq.refuse, left = refusing(error, error)
        with pytest.raises(type(error), match=str(error)):
            await coordinator.submit(MESSAGE)
        assert left == [error]
