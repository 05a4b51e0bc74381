"""Ids of a round's trace: the same everywhere, and no two alike."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravan.clock import ManualClock
from ravan.ids import JobId, RunId
from ravan.manifest.phases import RoundOutcome, RoundPhase
from ravan.tracing.recording import Tracer
from ravan.tracing.spans import NO_PARENT, PHASE_OF, ROUND, Attribute, RoundTrace, Span, Work

RUN = RunId(bytes(range(16)))
JOB = JobId("job-1")


def trace(number: int = 7, run_id: RunId = RUN) -> RoundTrace:
    return RoundTrace(run_id=run_id, job_id=JOB, round_number=number)


class Kept:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def emit(self, span: Span) -> None:
        self.spans.append(span)


def framed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def test_ids_are_the_labelled_hashes_that_the_protocol_page_names() -> None:
    expected = hashlib.sha256(framed(b"ravan/v1/trace", RUN) + (7).to_bytes(8, "big")).digest()[:16]
    assert trace().trace_id == expected
    assert trace().span_id(ROUND) == hashlib.sha256(framed(b"ravan/v1/span", expected, b"round")).digest()[:8]


@given(
    rounds=st.lists(
        st.tuples(st.binary(min_size=16, max_size=16), st.integers(1, 2**63)), min_size=2, max_size=6, unique=True
    )
)
def test_no_two_rounds_share_a_trace_and_no_two_spans_an_id(rounds: list[tuple[bytes, int]]) -> None:
    traces = [trace(number, RunId(run_id)) for run_id, number in rounds]
    assert len({each.trace_id for each in traces}) == len(traces)
    names = [ROUND, *RoundPhase]
    assert len({each.span_id(name) for each in traces for name in names}) == len(traces) * len(names)


def test_a_trace_does_not_show_the_run() -> None:
    assert RUN.hex() not in trace().trace_id.hex()


def test_every_work_hangs_under_a_span_that_the_coordinator_writes() -> None:
    written = {trace().span_id(name) for name in (ROUND, *RoundPhase)}
    kept = Kept()
    for work in Work:
        with Tracer(kept).of(trace()).work(work):
            pass
    assert {span.parent_id for span in kept.spans} <= written
    assert set(PHASE_OF) == set(Work)
    assert len({span.span_id for span in kept.spans}) == len(Work)


def test_what_fails_is_told_without_a_word_of_the_error() -> None:
    kept = Kept()
    with pytest.raises(ValueError, match="cell 7"), Tracer(kept).of(trace()).work(Work.TRAIN):
        raise ValueError("cell 7 says: bearing worn out")
    (span,) = kept.spans
    assert span.failed
    assert span.attributes == {Attribute.JOB: JOB, Attribute.ROUND: 7}
    assert "bearing" not in repr(span)


@pytest.mark.parametrize("outcome", RoundOutcome)
def test_a_round_that_is_not_committed_has_failed(outcome: RoundOutcome) -> None:
    kept = Kept()
    Tracer(kept, ManualClock(200.0)).of(trace()).round_ended(began_at=100.0, outcome=outcome, sites=3)
    (root,) = kept.spans
    assert root.failed == (outcome is not RoundOutcome.COMMITTED)
    assert (root.parent_id, root.began_at, root.ended_at) == (NO_PARENT, 100.0, 200.0)
    assert root.attributes[Attribute.OUTCOME] == outcome.value


def test_a_clock_that_is_set_back_in_the_middle_makes_nothing_shorter_than_nothing() -> None:
    kept, clock = Kept(), ManualClock(100.0)
    traced = Tracer(kept, clock).of(trace())
    with traced.work(Work.TRAIN):
        clock.advance(-50.0)
    traced.round_ended(began_at=100.0, outcome=RoundOutcome.COMMITTED, sites=3)
    assert all(span.ended_at >= span.began_at for span in kept.spans)


def test_nothing_is_taken_and_no_id_is_told_while_tracing_is_off() -> None:
    traced = Tracer().of(trace())
    with traced.work(Work.TRAIN):
        pass
    traced.phase_ended(RoundPhase.TRAINING, ended_at=1.0, seconds=1.0, sites=3)
    assert traced.trace_id == ""
    assert traced.log_facts == {}


def test_a_phase_tells_how_many_sites_there_were_and_when() -> None:
    kept = Kept()
    Tracer(kept).of(trace()).phase_ended(RoundPhase.SHARING, ended_at=12.0, seconds=2.0, sites=5)
    (span,) = kept.spans
    assert (span.name, span.began_at, span.ended_at, span.attributes[Attribute.SITES]) == ("sharing", 10.0, 12.0, 5)
