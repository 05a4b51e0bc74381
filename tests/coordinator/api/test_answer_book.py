"""Calls that come twice, late, at once or after a failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.api.answers import KEPT_S, AnswerBook
from coordinator.store.base import Store
from coordinator.store.sql.store import MEMORY, open_store
from ravan.clock import ManualClock
from ravan.errors import ErrorReason, ProtocolError, StateError
from ravan.wire.v1.operator_service_pb2 import (
    PauseJobRequest,
    PauseJobResponse,
    ResumeJobRequest,
    ResumeJobResponse,
    SubmitJobRequest,
    SubmitJobResponse,
)

NOW = 1_800_000_000.0


class Jobs:
    """Deeds that can be told apart: the n-th answers with n."""

    def __init__(self) -> None:
        self.done = 0

    async def submit(self) -> SubmitJobResponse:
        self.done += 1
        await asyncio.sleep(0)
        return SubmitJobResponse(job_id=f"j{self.done}", notes=["Read this."])


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    opened = open_store(MEMORY)
    yield opened
    await opened.close()


@settings(deadline=None)
@given(order=st.lists(st.sampled_from(["a", "b", "c"]), max_size=12), restarts=st.sets(st.integers(0, 11)))
def test_every_repetition_gets_the_first_answer_across_restarts(order: list[str], restarts: set[int]) -> None:
    async def run() -> None:
        store, jobs, first = open_store(MEMORY), Jobs(), dict[str, SubmitJobResponse]()
        book = AnswerBook(store, ManualClock(NOW))
        for step, request_id in enumerate(order):
            if step in restarts:
                book = AnswerBook(store, ManualClock(NOW + step))
            request = SubmitJobRequest(job_toml="toml", request_id=request_id)
            answer = await book.once(request, SubmitJobResponse, jobs.submit)
            assert answer == first.setdefault(request_id, answer)
        assert jobs.done == len(set(order))
        await store.close()

    asyncio.run(run())


async def test_repetitions_at_the_same_time_wait_for_the_first(store: Store) -> None:
    book, jobs = AnswerBook(store, ManualClock(NOW)), Jobs()
    request = SubmitJobRequest(request_id="r")
    answers = await asyncio.gather(*(book.once(request, SubmitJobResponse, jobs.submit) for _ in range(5)))
    assert {answer.job_id for answer in answers} == {"j1"}


async def test_a_call_without_an_id_is_done_each_time(store: Store) -> None:
    book, jobs = AnswerBook(store, ManualClock(NOW)), Jobs()
    answers = [await book.once(SubmitJobRequest(), SubmitJobResponse, jobs.submit) for _ in range(2)]
    assert [answer.job_id for answer in answers] == ["j1", "j2"]


async def test_what_failed_may_be_tried_again(store: Store) -> None:
    book, jobs = AnswerBook(store, ManualClock(NOW)), Jobs()

    async def fail() -> SubmitJobResponse:
        raise StateError("No model.", reason=ErrorReason.NOT_FOUND)

    request = SubmitJobRequest(request_id="r")
    with pytest.raises(StateError):
        await book.once(request, SubmitJobResponse, fail)
    assert (await book.once(request, SubmitJobResponse, jobs.submit)).job_id == "j1"


async def test_an_id_serves_one_call_only(store: Store) -> None:
    book = AnswerBook(store, ManualClock(NOW))

    async def pause() -> PauseJobResponse:
        return PauseJobResponse()

    async def resume() -> ResumeJobResponse:
        return ResumeJobResponse()

    await book.once(PauseJobRequest(job_id="j", request_id="r"), PauseJobResponse, pause)
    with pytest.raises(StateError) as other_job:
        await book.once(PauseJobRequest(job_id="k", request_id="r"), PauseJobResponse, pause)
    with pytest.raises(StateError) as other_method:
        await book.once(ResumeJobRequest(job_id="j", request_id="r"), ResumeJobResponse, resume)
    assert other_job.value.reason is other_method.value.reason is ErrorReason.ALREADY_EXISTS
    assert "random id" in other_job.value.next_step


async def test_answers_are_kept_for_a_month(store: Store) -> None:
    clock, jobs = ManualClock(NOW), Jobs()
    book = AnswerBook(store, clock)
    old, new = SubmitJobRequest(request_id="old"), SubmitJobRequest(request_id="new")
    await book.once(old, SubmitJobResponse, jobs.submit)
    clock.advance(KEPT_S)
    await book.once(new, SubmitJobResponse, jobs.submit)
    assert (await book.once(old, SubmitJobResponse, jobs.submit)).job_id == "j1"
    clock.advance(1)
    await book.once(SubmitJobRequest(request_id="newer"), SubmitJobResponse, jobs.submit)
    assert await store.transact("read", lambda transaction: transaction.get_answer("old")) is None


async def test_an_id_with_control_characters_is_refused(store: Store) -> None:
    book, jobs = AnswerBook(store, ManualClock(NOW)), Jobs()
    with pytest.raises(ProtocolError):
        await book.once(SubmitJobRequest(request_id="a\nb"), SubmitJobResponse, jobs.submit)
    assert jobs.done == 0
