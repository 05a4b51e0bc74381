"""What the trace of a round consists of, and how its spans are named. Pure.

The ids of a trace, of its root and of its phases follow from the run and the round's number. So coordinator and
agents write into one trace with nothing on the wire, nobody believes an id that a peer sent, and a coordinator that
was killed goes on with the same trace. What a span says comes from the closed list `Attribute`: a job, a round, counts;
never anything that a site knows of its data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NewType, Protocol

from ravan.ids import JobId, RunId
from ravan.manifest.phases import RoundOutcome, RoundPhase
from ravan.secagg.transcript import Label, data, digest, u64

TraceId = NewType("TraceId", bytes)
"""16 bytes."""

SpanId = NewType("SpanId", bytes)
"""8 bytes."""

NO_PARENT: Final = SpanId(b"")

ROUND: Final = "round"
"""Name of the root; the spans below it are named by a `RoundPhase` or a `Work`."""


class Work(StrEnum):
    """What coordinator or agent do in a round, within a phase."""

    DOWNLOAD = "download"
    TRAIN = "train"
    ADVERTISE = "advertise"
    SHARE = "share"
    MASK = "mask"
    UPLOAD = "upload"
    CONFIRM = "confirm"
    REVEAL = "reveal"
    UNMASK = "unmask"
    COMBINE = "combine"
    EVALUATE = "evaluate"
    COMMIT = "commit"


PHASE_OF: Final[Mapping[Work, RoundPhase | None]] = MappingProxyType(
    {
        Work.DOWNLOAD: RoundPhase.TRAINING,
        Work.TRAIN: RoundPhase.TRAINING,
        Work.ADVERTISE: RoundPhase.TRAINING,
        Work.SHARE: RoundPhase.SHARING,
        Work.MASK: RoundPhase.UPLOADING,
        Work.UPLOAD: RoundPhase.UPLOADING,
        Work.CONFIRM: RoundPhase.CONFIRMING,
        Work.REVEAL: RoundPhase.REVEALING,
        Work.UNMASK: RoundPhase.UNMASKING,
        Work.COMBINE: RoundPhase.EVALUATING,
        Work.EVALUATE: RoundPhase.EVALUATING,
        # Its phase has ended by what is being stored.
        Work.COMMIT: None,
    }
)
"""Under which span a piece of work hangs; None: under the root."""


class Attribute(StrEnum):
    """All that a span may say beside its name and its times."""

    JOB = "ravan.job_id"
    ROUND = "ravan.round"
    SITES = "ravan.sites"
    """How many sites were still in the round."""
    OUTCOME = "ravan.outcome"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of a round that is over."""

    trace_id: TraceId
    span_id: SpanId
    parent_id: SpanId
    """`NO_PARENT` for the root."""
    name: str
    began_at: float
    """Seconds since the epoch, by the clock of whoever did it."""
    ended_at: float
    attributes: Mapping[Attribute, str | int]
    failed: bool = False


class SpanSink(Protocol):
    """Whoever takes spans to a collector."""

    def emit(self, span: Span) -> None:
        """Take a span; never blocks and never raises."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTrace:
    """The trace of one round, as all who take part in it know it."""

    run_id: RunId
    job_id: JobId
    round_number: int

    @property
    def trace_id(self) -> TraceId:
        """Return the same id on every machine."""
        return TraceId(digest(Label.TRACE, data(self.run_id), u64(self.round_number))[:16])

    def span_id(self, name: str) -> SpanId:
        """Return the id of the root (`ROUND`) or of a phase, the same on every machine."""
        return SpanId(digest(Label.SPAN, data(self.trace_id), data(name.encode()))[:8])

    def describe_round(self, *, began_at: float, ended_at: float, outcome: RoundOutcome, sites: int) -> Span:
        """Return the root."""
        return Span(
            trace_id=self.trace_id,
            span_id=self.span_id(ROUND),
            parent_id=NO_PARENT,
            name=ROUND,
            began_at=began_at,
            ended_at=ended_at,
            attributes={**self._names, Attribute.SITES: sites, Attribute.OUTCOME: outcome.value},
            failed=outcome is not RoundOutcome.COMMITTED,
        )

    def describe_phase(self, phase: RoundPhase, *, began_at: float, ended_at: float, sites: int) -> Span:
        """Return the span of a phase."""
        return Span(
            trace_id=self.trace_id,
            span_id=self.span_id(phase),
            parent_id=self.span_id(ROUND),
            name=phase.value,
            began_at=began_at,
            ended_at=ended_at,
            attributes={**self._names, Attribute.SITES: sites},
        )

    def describe_work(self, work: Work, span_id: SpanId, *, began_at: float, ended_at: float, failed: bool) -> Span:
        """Return the span of a piece of work; its id is drawn, since many sites do the same and may do it twice."""
        return Span(
            trace_id=self.trace_id,
            span_id=span_id,
            parent_id=self.span_id(PHASE_OF[work] or ROUND),
            name=work.value,
            began_at=began_at,
            ended_at=ended_at,
            attributes=self._names,
            failed=failed,
        )

    @property
    def _names(self) -> dict[Attribute, str | int]:
        return {Attribute.JOB: self.job_id, Attribute.ROUND: self.round_number}
