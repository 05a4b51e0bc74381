"""Read the audit file back: one entry for each update that left, whatever state the file is in."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from edge_agent.audit.trail import FILE_NAME, AuditEvent
from ravan.errors import ErrorReason, StateError


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """One masked update that left this PC, or began to."""

    time: str
    """When its first byte was about to leave, as ISO 8601."""
    job: str
    run: str
    round: int
    assignment: str
    sha256: str
    bytes: int
    complete: bool = False
    """Whether the coordinator acknowledged the whole of it."""
    survivors: tuple[str, ...] = ()
    """Sites whose sum this one agreed to reveal; empty when it was not asked."""
    outcome: str = ""
    """How the round ended; empty when this PC was not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessedHead:
    """Where the coordinator's audit chain was, as it told this PC with a round's result."""

    time: str
    run: str
    round: int
    sequence: int
    """Place of the record in the coordinator's log."""
    head: str
    """SHA-256, hexadecimal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """The whole file."""

    departures: tuple[Departure, ...]
    """In the order in which they left."""
    unreadable: tuple[int, ...]
    """Numbers of lines that are no entries: broken off by a power cut, or altered."""
    heads: tuple[WitnessedHead, ...] = ()
    """Of the coordinator's audit chain, in the order in which they came."""


def read_audit(state_dir: Path) -> AuditReport:
    """Return what left this PC; raise StateError when the file may not be read."""
    path = state_dir / FILE_NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return AuditReport(departures=(), unreadable=())
    except OSError as error:
        raise StateError(
            f"{path} cannot be read: {(error.strerror or str(error)).lower()}.",
            reason=ErrorReason.PERMISSION_DENIED,
            next_step="Run the command as the user whose agent it is.",
        ) from error
    return gather(content.splitlines())


def gather(lines: Iterable[bytes]) -> AuditReport:
    """Join the lines of each update; two that left in one round are two."""
    departures: list[Departure] = []
    places: dict[str, int] = {}
    heads: list[WitnessedHead] = []
    unreadable = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            if entry["event"] == AuditEvent.HEAD:
                heads.append(_head_in(entry))
            else:
                _take(entry, departures, places)
        except (ValueError, KeyError, TypeError, RecursionError):
            unreadable.append(number)
    return AuditReport(departures=tuple(departures), unreadable=tuple(unreadable), heads=tuple(heads))


def _take(entry: dict[str, Any], departures: list[Departure], places: dict[str, int]) -> None:
    """Add one entry; `places` says where each round's newest update stands."""
    event, assignment = AuditEvent(entry["event"]), str(entry["assignment"])
    if event is AuditEvent.SENDING:
        begun = _begun(entry)
        # The same bytes go out again after a restart.
        if assignment not in places or departures[places[assignment]].sha256 != begun.sha256:
            places[assignment] = len(departures)
            departures.append(begun)
        return
    place = places[assignment]
    departures[place] = _followed(departures[place], event, entry)


def _followed(known: Departure, event: AuditEvent, entry: dict[str, Any]) -> Departure:
    if event is AuditEvent.SENT:
        return replace(known, complete=True)
    if event is AuditEvent.SURVIVORS:
        return replace(known, survivors=tuple(map(str, entry["sites"])))
    return replace(known, outcome=str(entry["outcome"]))


def _head_in(entry: dict[str, Any]) -> WitnessedHead:
    return WitnessedHead(
        time=datetime.fromisoformat(entry["time"]).isoformat(),
        run=str(entry["run"]),
        round=int(entry["round"]),
        sequence=int(entry["sequence"]),
        head=bytes.fromhex(entry["head"]).hex(),
    )


def _begun(entry: dict[str, Any]) -> Departure:
    return Departure(
        time=datetime.fromisoformat(entry["time"]).isoformat(),
        job=str(entry["job"]),
        run=str(entry["run"]),
        round=int(entry["round"]),
        assignment=str(entry["assignment"]),
        sha256=str(entry["sha256"]),
        bytes=int(entry["bytes"]),
    )
