"""Admission of calls as pure accounting: rates, numbers in progress, and that no site pays for another."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravan.errors import ErrorReason, StateError
from ravan.identity.certificates import Caller, Role
from ravan.ids import SiteId
from ravan.rpc.admission import NEWS_EVERY_S, Admission, CallKind, CallLimits, TokenBucket

RATE = 4.0
BURST = 3

gaps = st.lists(st.integers(0, 16).map(lambda quarters: quarters / 16), max_size=60)
"""Between events, in seconds; exact in binary, so that nothing below is rounded."""


def site(number: int) -> Caller:
    return Caller(role=Role.AGENT, name=f"site-{number}", serial="0")


OPERATOR = Caller(role=Role.OPERATOR, name="admin", serial="0")


def times_of(waits: list[float]) -> list[float]:
    times = [0.0]
    for wait in waits:
        times.append(times[-1] + wait)
    return times


@given(gaps)
def test_a_bucket_never_lets_more_pass_than_burst_and_rate_in_any_span(waits: list[float]) -> None:
    bucket = TokenBucket(RATE, BURST, 0.0)
    passed = [at for at in times_of(waits) if bucket.take(at)]
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            assert last - first + 1 <= BURST + RATE * (passed[last] - passed[first])


@given(gaps)
def test_a_bucket_refuses_only_who_was_ahead_of_burst_and_rate(waits: list[float]) -> None:
    bucket = TokenBucket(RATE, BURST, 0.0)
    # The theoretical time of arrival (generic cell rate algorithm): another way to say the same rate.
    due = -(BURST - 1) / RATE
    for at in times_of(waits):
        conforms = at >= due
        assert bucket.take(at) is conforms
        if conforms:
            due = max(due, at - (BURST - 1) / RATE) + 1 / RATE


@given(st.lists(st.floats(1 / RATE, 100.0), max_size=50))
def test_who_keeps_to_the_rate_is_never_refused(waits: list[float]) -> None:
    bucket = TokenBucket(RATE, 2, 0.0)
    assert all(bucket.take(at) for at in times_of(waits))


@given(st.lists(st.floats(0.0, 1e6), max_size=50))
def test_a_clock_that_goes_back_gives_nothing(times: list[float]) -> None:
    bucket = TokenBucket(RATE, BURST, 0.0)
    passed = sum(bucket.take(at) for at in times)
    assert passed <= BURST + RATE * max(times, default=0.0)


LIMITS = CallLimits(
    calls=9,
    streams=6,
    site_calls=2,
    site_streams=3,
    site_uploads=2,
    site_calls_per_s=1e6,
    site_burst=100_000,
    operator_uploads=1,
)
CALLERS = (site(0), site(1), site(2), OPERATOR, None)
operations = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(CALLERS), st.sampled_from(CallKind)),
        st.integers(0, 30),
    ),
    max_size=80,
)


def own_limit_reached(open_: list[tuple[Caller | None, CallKind]], caller: Caller | None, kind: CallKind) -> bool:
    """Whether a call is refused for what its own caller does; written from the table of limits."""
    own = [each for who, each in open_ if who == caller]
    if caller is OPERATOR:
        return kind is CallKind.UPLOAD and own.count(CallKind.UPLOAD) == 1
    if caller is None:
        return False
    if kind is CallKind.UNARY:
        return own.count(CallKind.UNARY) == 2
    streams = own.count(CallKind.STREAM) + own.count(CallKind.UPLOAD)
    return streams == 3 or (kind is CallKind.UPLOAD and own.count(CallKind.UPLOAD) == 2)


@given(operations)
def test_calls_are_refused_exactly_at_the_limits_of_their_caller_or_of_the_port(
    steps: list[tuple[Caller | None, CallKind] | int],
) -> None:
    admission = Admission(LIMITS)
    held: list[tuple[Caller | None, CallKind, AbstractContextManager[None]]] = []
    for step in steps:
        if isinstance(step, int):
            if held:
                held.pop(step % len(held))[2].__exit__(None, None, None)
            continue
        caller, kind = step
        open_ = [(who, each) for who, each, _ in held]
        streams = sum(each is not CallKind.UNARY for _, each in open_)
        port_full = len(open_) == 9 or (kind is not CallKind.UNARY and streams == 6)
        entry = admission.enter(caller, kind, 0.0)
        if own_limit_reached(open_, caller, kind) or port_full:
            with pytest.raises(StateError) as caught:
                entry.__enter__()
            assert caught.value.reason is ErrorReason.TOO_MANY_CALLS
        else:
            entry.__enter__()
            held.append((caller, kind, entry))
        assert admission.in_progress() == len(held)
    for _, _, held_entry in held:
        held_entry.__exit__(None, None, None)
    assert admission.in_progress() == 0
    assert all(admission.in_progress(SiteId(f"site-{number}")) == 0 for number in range(3))


def test_a_site_that_calls_too_fast_is_refused_and_the_others_are_not() -> None:
    admission = Admission(CallLimits(site_calls_per_s=10, site_burst=5))
    refusals = []
    for number in range(1000):
        at = number / 1000
        try:
            with admission.enter(site(0), CallKind.UNARY, at):
                pass
        except StateError as error:
            refusals.append(error.next_step)
        if number % 200 == 0:
            with admission.enter(site(1), CallKind.UNARY, at):
                pass
    # Five at once, and ten in the second that this lasts, but for the last of them.
    assert len(refusals) == 1000 - 5 - 9
    assert all("limits.site_calls_per_s" in next_step for next_step in refusals)


def test_operators_are_not_held_to_a_rate() -> None:
    admission = Admission(CallLimits(site_calls_per_s=1, site_burst=8))
    for _ in range(1000):
        with admission.enter(OPERATOR, CallKind.UNARY, 0.0):
            pass


@pytest.mark.parametrize(
    ("kind", "most", "key"),
    [
        (CallKind.UNARY, 16, "limits.site_calls"),
        (CallKind.STREAM, 16, "limits.site_streams"),
        (CallKind.UPLOAD, 4, "limits.site_uploads"),
    ],
)
def test_each_limit_of_a_site_names_the_key_that_raises_it(kind: CallKind, most: int, key: str) -> None:
    admission = Admission(CallLimits())
    with ExitStack() as held:
        for _ in range(most):
            held.enter_context(admission.enter(site(0), kind, 0.0))
        with pytest.raises(StateError) as caught:
            held.enter_context(admission.enter(site(0), kind, 0.0))
        assert f"`{key}`" in caught.value.next_step
        held.enter_context(admission.enter(site(1), kind, 0.0))


def test_a_call_that_fails_is_counted_no_longer() -> None:
    admission = Admission(CallLimits())
    with pytest.raises(ZeroDivisionError), admission.enter(site(0), CallKind.STREAM, 0.0):
        raise ZeroDivisionError
    assert admission.in_progress(SiteId("site-0")) == admission.in_progress() == 0


def test_a_site_that_is_refused_is_named_now_and_then_and_an_operator_never() -> None:
    admission = Admission(CallLimits())
    told = [at for at in range(0, 200) if admission.is_news(site(0), float(at))]
    assert told[0] == 0
    assert {later - earlier for earlier, later in pairwise(told)} == {int(NEWS_EVERY_S)}
    assert admission.is_news(site(1), 1.0)
    assert not admission.is_news(OPERATOR, 0.0)
