"""Taking the time of what is done in rounds; without a sink nothing is taken."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ravan.clock import Clock, SystemClock
from ravan.manifest.phases import RoundOutcome, RoundPhase
from ravan.tracing.spans import RoundTrace, SpanId, SpanSink, Work

_SPAN_ID_BYTES = 8


class TracedRound:
    """One round, as it is written into its trace."""

    def __init__(self, trace: RoundTrace, sink: SpanSink | None, clock: Clock) -> None:
        self._trace = trace
        self._sink = sink
        self._clock = clock

    @property
    def trace_id(self) -> str:
        """Return the trace's id in hex, by which people look it up; empty where nothing is traced."""
        return "" if self._sink is None else self._trace.trace_id.hex()

    @property
    def log_facts(self) -> dict[str, str]:
        """Return what leads from a line of the log to the trace."""
        return {"trace_id": self.trace_id} if self.trace_id else {}

    @contextmanager
    def work(self, work: Work) -> Iterator[None]:
        """Time the block; one that is left by an exception has failed."""
        if self._sink is None:
            yield
            return
        began_at, began, failed = self._clock.now(), time.monotonic(), True
        try:
            yield
            failed = False
        finally:
            # The wall clock may be set meanwhile; training takes hours.
            ended_at = began_at + time.monotonic() - began
            span_id = SpanId(os.urandom(_SPAN_ID_BYTES))
            self._sink.emit(
                self._trace.describe_work(work, span_id, began_at=began_at, ended_at=ended_at, failed=failed)
            )

    def phase_ended(self, phase: RoundPhase, *, ended_at: float, seconds: float, sites: int) -> None:
        """Write down a phase that is over."""
        if self._sink is not None:
            self._sink.emit(
                self._trace.describe_phase(phase, began_at=ended_at - seconds, ended_at=ended_at, sites=sites)
            )

    def round_ended(self, *, began_at: float, outcome: RoundOutcome, sites: int) -> None:
        """Write down the round itself, now."""
        if self._sink is not None:
            ended_at = max(began_at, self._clock.now())
            self._sink.emit(
                self._trace.describe_round(began_at=began_at, ended_at=ended_at, outcome=outcome, sites=sites)
            )


class Tracer:
    """Hand out rounds to write into."""

    def __init__(self, sink: SpanSink | None = None, clock: Clock | None = None) -> None:
        self._sink = sink
        self._clock = clock or SystemClock()

    def of(self, trace: RoundTrace) -> TracedRound:
        """Return a round."""
        return TracedRound(trace, self._sink, self._clock)
