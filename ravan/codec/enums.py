"""Closed lists on the wire and in Python: one map each, complete in both directions.

Names agree but for the wire's prefix, so a map is built from the names; a list that grew on one
side alone fails when this module is imported.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Generic, Protocol, TypeVar

from ravan.codec.fields import malformed
from ravan.errors import ErrorReason
from ravan.manifest.assignment import Suite
from ravan.manifest.phases import (
    AgentActivity,
    DropReason,
    HoldReason,
    JobState,
    RoundOutcome,
    RoundPhase,
    SiteState,
)
from ravan.manifest.plan import BasisKind, Denominator, LabelRule, Optimiser, Precision, Task
from ravan.manifest.profile import LimitSource
from ravan.wire.v1 import errors_pb2, hardware_pb2, operator_service_pb2, round_pb2, site_service_pb2

Member = TypeVar("Member", bound=Enum)
Number = TypeVar("Number", bound=int)


class WireEnum(Protocol[Number]):
    """What the generated code offers of an enum."""

    def items(self) -> list[tuple[str, Number]]:
        """Return names and numbers."""
        ...


class EnumMap(Generic[Member, Number]):
    """Convert one closed list."""

    def __init__(
        self,
        members: type[Member],
        wire: WireEnum[Number],
        prefix: str,
        absent: Member | None = None,
        newer: Member | None = None,
    ) -> None:
        """Build the map from the names; `absent` is what an unset field means, if it may be unset.

        `newer` is what a number means that only a later release knows, where that is no reason to refuse the message.
        """
        names = {name.removeprefix(prefix): number for name, number in wire.items()}
        self._unset = names.pop("UNSPECIFIED")
        if names.keys() != {member.name for member in members}:
            raise TypeError(f"{members.__name__} and its wire enum do not hold the same names")
        self._name = members.__name__
        self._absent = absent
        self._newer = newer
        self._to_wire = {member: names[member.name] for member in members}
        self._from_wire = {number: member for member, number in self._to_wire.items()}

    def to_wire(self, member: Member | None) -> Number:
        """Return the wire's number; that of UNSPECIFIED for None."""
        return self._unset if member is None else self._to_wire[member]

    def from_wire(self, number: Number) -> Member:
        """Return the member; raise ProtocolError (MALFORMED) for a number that is not listed and means nothing."""
        member = self._absent if number == self._unset else self._from_wire.get(number, self._newer)
        if member is None:
            raise malformed(f"{number} is no {self._name}.")
        return member

    def from_wire_or_none(self, number: Number) -> Member | None:
        """Return the member, or None for UNSPECIFIED where that means that there is none yet."""
        return None if number == self._unset else self.from_wire(number)


TASK: Final = EnumMap(Task, round_pb2.Task, "TASK_")
BASIS_KIND: Final = EnumMap(BasisKind, round_pb2.BasisKind, "BASIS_KIND_")
OPTIMISER: Final = EnumMap(Optimiser, round_pb2.Optimiser, "OPTIMISER_")
DENOMINATOR: Final = EnumMap(Denominator, round_pb2.Denominator, "DENOMINATOR_")
PRECISION: Final = EnumMap(Precision, round_pb2.Precision, "PRECISION_", absent=Precision.FLOAT32)
LABEL_RULE: Final = EnumMap(LabelRule, round_pb2.LabelRule, "LABEL_RULE_", absent=LabelRule.LAST)
SUITE: Final = EnumMap(Suite, round_pb2.Suite, "SUITE_")
ROUND_PHASE: Final = EnumMap(RoundPhase, round_pb2.RoundPhase, "ROUND_PHASE_")
JOB_STATE: Final = EnumMap(JobState, round_pb2.JobState, "JOB_STATE_")
SITE_STATE: Final = EnumMap(SiteState, operator_service_pb2.SiteState, "SITE_STATE_")
HOLD_REASON: Final = EnumMap(HoldReason, operator_service_pb2.HoldReason, "HOLD_REASON_")

# Said beside what matters: a peer of a later release is understood without it.
ROUND_OUTCOME: Final = EnumMap(RoundOutcome, round_pb2.RoundOutcome, "ROUND_OUTCOME_", newer=RoundOutcome.INTERNAL)
DROP_REASON: Final = EnumMap(DropReason, round_pb2.DropReason, "DROP_REASON_", newer=DropReason.INTERNAL)
LIMIT_SOURCE: Final = EnumMap(
    LimitSource,
    hardware_pb2.LimitSource,
    "LIMIT_SOURCE_",
    absent=LimitSource.MACHINE,
    newer=LimitSource.MACHINE,
)
AGENT_ACTIVITY: Final = EnumMap(
    AgentActivity,
    site_service_pb2.AgentActivity,
    "AGENT_ACTIVITY_",
    absent=AgentActivity.IDLE,
    newer=AgentActivity.IDLE,
)
ERROR_REASON: Final = EnumMap(
    ErrorReason,
    errors_pb2.ErrorReason,
    "ERROR_REASON_",
    absent=ErrorReason.INTERNAL,
    newer=ErrorReason.INTERNAL,
)
