"""Refused calls are recorded one by one; a flood of them is recorded with a count."""

from __future__ import annotations

import asyncio
import json

import pytest
from structlog.testing import capture_logs

from coordinator.audit.chain import AuditEntry, AuditKind
from coordinator.daemon.denials import BURST, EVERY_S, Denials
from ravan.errors import ErrorReason, StateError
from ravan.identity.certificates import Caller, Rank, Role

MIA = Caller(role=Role.OPERATOR, name="mia", serial="aa", rank=Rank.VIEWER)
KEN = Caller(role=Role.OPERATOR, name="ken", serial="bb", rank=Rank.VIEWER)
STOP_JOB = "/ravan.wire.v1.OperatorService/StopJob"


class Log:
    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    async def append(self, entry: AuditEntry) -> None:
        self.entries.append(entry)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("coordinator.daemon.denials.time.monotonic", lambda: now[0])
    return now


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_refused_call_is_recorded_with_who_and_what(clock: list[float]) -> None:
    log = Log()
    Denials(log.append).note(MIA, STOP_JOB)
    await settle()
    [entry] = log.entries
    assert (entry.kind, entry.actor, entry.subject) == (AuditKind.CALL_DENIED, "operator:mia:aa", "StopJob")
    assert entry.facts == {"left_out": 0}


async def test_a_flood_is_recorded_with_a_count_and_hides_nobody_else(clock: list[float]) -> None:
    log, more = Log(), 1000
    denials = Denials(log.append)
    for _ in range(BURST + more):
        denials.note(MIA, STOP_JOB)
    denials.note(KEN, STOP_JOB)
    await settle()
    assert [each.actor for each in log.entries] == ["operator:mia:aa"] * BURST + ["operator:ken:bb"]
    clock[0] += EVERY_S + 1
    denials.note(MIA, STOP_JOB)
    await settle()
    assert log.entries[-1].facts == {"left_out": more}
    assert json.dumps(dict(log.entries[-1].facts))


async def test_a_log_that_takes_nothing_breaks_nothing(clock: list[float]) -> None:
    async def refuse(entry: AuditEntry) -> None:
        raise StateError("altered", reason=ErrorReason.WRONG_STATE)

    denials = Denials(refuse)
    with capture_logs() as lines:
        for _ in range(2):
            denials.note(MIA, STOP_JOB)
            await settle()
    assert [line["why"] for line in lines] == ["altered", "altered"]
