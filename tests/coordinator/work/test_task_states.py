"""One task among three processes, in any order of taking, renewing, ending and dying."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from coordinator.leases.lease import LeaseLost
from coordinator.work import tasks
from coordinator.work.failures import error_of, failure_of, is_final
from coordinator.work.tasks import MOST_ATTEMPTS, TERM_S, Task, TaskKind, TaskState, new_task
from ravan.errors import DataError, ErrorReason, ProtocolError, ResourceError, StateError
from ravan.ids import JobId

process = st.sampled_from(("a", "b", "c"))
FAILURE = failure_of(ResourceError("The disk is full.", reason=ErrorReason.DISK_FULL, next_step="Free some."), "a")


def waiting(kind: TaskKind = TaskKind.EVALUATE, **arguments: str) -> Task:
    return new_task(kind, JobId("j1"), 3, arguments or {"state": "ab"}, 10.0)


class Attempts(RuleBasedStateMachine):
    """Processes that believe what they were told; who may write is kept beside."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.task = waiting()
        self.believed: dict[str, Task] = {}
        self.owner: str | None = None
        self.ends = 0.0
        self.takes = 0
        self.spent = 0
        self.results: list[str] = []

    def owns(self, name: str) -> bool:
        return self.owner == name and self.believed[name].fence == self.takes

    def is_over(self) -> bool:
        return self.task.state in (TaskState.DONE, TaskState.FAILED)

    @rule(seconds=st.sampled_from((1.0, TERM_S / 3, TERM_S, 60.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(name=process)
    def take(self, name: str) -> None:
        free = not self.is_over() and (self.owner is None or self.now >= self.ends)
        taken = tasks.take(self.task, name, self.now)
        assert (taken is not None) == free
        if taken is None:
            return
        self.task = taken
        if self.spent == MOST_ATTEMPTS:
            assert taken.state is TaskState.FAILED
            self.owner = None
            return
        assert (taken.state, taken.holder) == (TaskState.RUNNING, name)
        self.owner, self.ends, self.takes, self.spent = name, self.now + TERM_S, self.takes + 1, self.spent + 1
        assert (taken.fence, taken.attempts) == (self.takes, self.spent)
        self.believed[name] = taken

    def change(self, name: str, changed: Task | None) -> None:
        if changed is not None:
            self.task = changed
            self.owner = None
            del self.believed[name]

    @rule(name=process)
    def renew(self, name: str) -> None:
        held = self.believed.get(name)
        if held is None:
            return
        if not self.owns(name):
            with pytest.raises(LeaseLost):
                tasks.renew(self.task, held, self.now)
            return
        self.task, self.ends = tasks.renew(self.task, held, self.now), self.now + TERM_S

    @rule(name=process)
    def finish(self, name: str) -> None:
        held = self.believed.get(name)
        if held is None:
            return
        if not self.owns(name):
            with pytest.raises(LeaseLost):
                tasks.finish(self.task, held, {"by": name}, self.now)
            return
        self.change(name, tasks.finish(self.task, held, {"by": name}, self.now))
        self.results.append(name)

    @rule(name=process, for_good=st.booleans())
    def fail(self, name: str, for_good: bool) -> None:
        held = self.believed.get(name)
        if held is None:
            return
        if not self.owns(name):
            with pytest.raises(LeaseLost):
                tasks.fail(self.task, held, FAILURE, self.now, for_good=for_good)
            return
        self.change(name, tasks.fail(self.task, held, FAILURE, self.now, for_good=for_good))
        assert (self.task.state is TaskState.FAILED) == (for_good or self.spent == MOST_ATTEMPTS)

    @rule(name=process)
    def give_back(self, name: str) -> None:
        held = self.believed.get(name)
        if held is None:
            return
        if not self.owns(name):
            with pytest.raises(LeaseLost):
                tasks.give_back(self.task, held, self.now)
            return
        self.change(name, tasks.give_back(self.task, held, self.now))
        self.spent -= 1

    @rule(name=process)
    def die(self, name: str) -> None:
        self.believed.pop(name, None)

    @invariant()
    def a_result_comes_once_and_stays(self) -> None:
        assert len(self.results) <= 1
        assert (self.task.state is TaskState.DONE) == (self.results == [self.task.result.get("by")])

    @invariant()
    def attempts_are_bounded(self) -> None:
        assert self.task.attempts == self.spent <= MOST_ATTEMPTS


class TestAttempts(Attempts.TestCase):  # type: ignore[misc,valid-type] # made at run time
    settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


def test_the_same_work_has_the_same_id_and_other_work_another() -> None:
    assert waiting(state="ab").task_id == replace(waiting(state="ab"), put_at=99.0).task_id
    others = {
        waiting(state="ab").task_id,
        waiting(state="cd").task_id,
        waiting(TaskKind.WEIGH, state="ab").task_id,
        new_task(TaskKind.EVALUATE, JobId("j2"), 3, {"state": "ab"}, 10.0).task_id,
        new_task(TaskKind.EVALUATE, JobId("j1"), 4, {"state": "ab"}, 10.0).task_id,
    }
    assert len(others) == 5


def test_who_asks_again_gets_what_was_done_and_what_failed_is_begun_anew() -> None:
    done = replace(waiting(), state=TaskState.DONE, result={"x": 1}, fence=2)
    failed = replace(done, state=TaskState.FAILED, attempts=3)
    assert tasks.put(done, waiting()) == done
    again = tasks.put(failed, waiting())
    assert (again.state, again.attempts, again.fence, dict(again.result)) == (TaskState.WAITING, 0, 2, {})


def test_a_task_whose_processes_all_died_says_so() -> None:
    task = waiting()
    for number in range(MOST_ATTEMPTS):
        taken = tasks.take(task, f"w{number}", number * 100.0)
        assert taken is not None
        task = taken
    over = tasks.take(task, "w9", 1000.0)
    assert over is not None
    error = error_of(over.result)
    assert isinstance(error, ResourceError)
    assert "3 processes ended over the task evaluate, w2 last" in str(error)
    assert error.next_step


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (ProtocolError("The masks did not cancel.", reason=ErrorReason.CANARY_MISMATCH, next_step="See."), True),
        (DataError("No rows.", reason=ErrorReason.DATA_MISSING, next_step="Give some."), True),
        (ResourceError("Full.", reason=ErrorReason.DISK_FULL, next_step="Free some."), False),
    ],
)
def test_what_was_raised_at_one_process_is_raised_at_the_other(error: Exception, final: bool) -> None:
    again = error_of(failure_of(error, "hq-1"))
    assert (type(again), str(again), again.reason, again.next_step) == (
        type(error),
        str(error),
        error.reason,  # type: ignore[attr-defined]
        error.next_step,  # type: ignore[attr-defined]
    )
    assert is_final(error) is final


def test_of_what_nobody_foresaw_only_the_place_is_told() -> None:
    again = error_of(failure_of(KeyError("secret"), "hq-1"))
    assert isinstance(again, StateError)
    assert again.reason is ErrorReason.INTERNAL
    assert "secret" not in str(again)
    assert "hq-1" in str(again)
    assert not is_final(KeyError("secret"))
