"""Whether training may go on beside what else the PC does. Pure: readings in, a reason out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from edge_agent.host.shifts import Shift

RELIEF: Final = 0.8
"""A pause ends when its measure is down to this part of where it began, so that it does not flicker."""


class PauseReason(StrEnum):
    """Why training stands aside."""

    SHIFT = "outside the hours in which this PC may train"
    BATTERY = "this PC runs on battery"
    HEAT = "this PC is too hot"
    BUSY = "other programs need the processor"


LASTING: Final = frozenset({PauseReason.SHIFT, PauseReason.BATTERY})
"""Reasons that hold for hours: no round is begun under them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTerms:
    """Under which terms the PC lets train; 0 leaves a measure out."""

    shifts: Sequence[Shift] = ()
    """None allow any time."""
    on_battery: bool = False
    celsius: float = 0.0
    busy_share: float = 0.0
    """Share of all cores that other programs may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What the PC shows now."""

    moment: datetime
    """Of its own clock."""
    on_battery: bool = False
    celsius: float | None = None
    """Of its hottest sensor; None where no sensor tells."""
    busy_share: float = 0.0
    """Share of all cores that programs other than the agent took since the last reading."""


def find_pause(terms: HostTerms, now: Readings, before: PauseReason | None = None) -> PauseReason | None:
    """Return why training must stand aside now, or None; `before` is the reason of the pause that goes on."""
    if terms.shifts and not any(shift.covers(now.moment) for shift in terms.shifts):
        return PauseReason.SHIFT
    if now.on_battery and not terms.on_battery:
        return PauseReason.BATTERY
    if terms.celsius and now.celsius is not None and now.celsius > _edge(terms.celsius, PauseReason.HEAT, before):
        return PauseReason.HEAT
    if terms.busy_share and now.busy_share > _edge(terms.busy_share, PauseReason.BUSY, before):
        return PauseReason.BUSY
    return None


def _edge(limit: float, reason: PauseReason, before: PauseReason | None) -> float:
    return limit * RELIEF if before is reason else limit
