"""Write down what leaves this PC, before it does: an update that could not be noted is not sent.

`audit.jsonl` in the state folder only grows, a JSON object a line, each on disk before the agent goes on:

    sending     the masked update begins to go out: job, run, round, SHA-256 and length of its bytes
    sent        the coordinator has the whole of it
    survivors   the sites whose sum this one agreed to reveal
    ended       what became of the round: an outcome, or `left`
    head        the head of the coordinator's audit chain as it told this site with a round's result
"""

from __future__ import annotations

import asyncio
import json
import os
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import structlog

from ravan.clock import Clock
from ravan.disk import room_in
from ravan.errors import RavanError
from ravan.identity.keyfiles import OWNER_ONLY, make_private_folder
from ravan.ids import Digest, RunId
from ravan.manifest.assignment import Assignment
from ravan.manifest.phases import RoundOutcome
from ravan.secagg.messages import MaskedHeader, SurvivorSet

log = structlog.stdlib.get_logger(__name__)

FILE_NAME: Final = "audit.jsonl"
LEFT: Final = "left"
"""Outcome of a round that this site did not see to its end."""


class AuditEvent(StrEnum):
    """What a line tells."""

    SENDING = "sending"
    SENT = "sent"
    SURVIVORS = "survivors"
    ENDED = "ended"
    HEAD = "head"


class AuditTrail:
    """Append lines to the file; whatever is there is never changed."""

    def __init__(self, state_dir: Path, clock: Clock) -> None:
        """Name the file in the agent's state folder; nothing is written yet."""
        self._path = state_dir / FILE_NAME
        self._clock = clock
        self._open: set[Digest] = set()
        """Assignments of which something left, and whose end was not noted."""
        self._witnessed: dict[str, Any] = {}
        """What was noted last of the coordinator's chain; a job's end repeats its last round's result."""

    async def sending(self, assignment: Assignment, digest: Digest, header: MaskedHeader) -> None:
        """Note an update before its first byte leaves; raise ResourceError DISK_FULL, or OSError."""
        facts = {
            "assignment": digest.hex(),
            "job": assignment.job_id,
            "run": assignment.run_id.hex(),
            "round": assignment.round_number,
            "sha256": header.sha256.hex(),
            "bytes": header.size_bytes,
        }
        await asyncio.to_thread(self._append, AuditEvent.SENDING, facts)
        self._open.add(digest)

    async def sent(self, digest: Digest) -> None:
        """Note that the whole update has left."""
        await self._follow_up(AuditEvent.SENT, {"assignment": digest.hex()})

    async def survivors(self, assignment: Assignment, digest: Digest, agreed: SurvivorSet) -> None:
        """Note the names of those whose sum this site agreed to."""
        self._open.add(digest)
        members = {member.index: member.site for member in assignment.members}
        await self._follow_up(
            AuditEvent.SURVIVORS, {"assignment": digest.hex(), "sites": [members[index] for index in agreed.survivors]}
        )

    async def ended(self, digest: Digest, outcome: RoundOutcome | None) -> None:
        """Note the end of a round of which something left; None when this site left it."""
        if digest in self._open:
            self._open.discard(digest)
            told = outcome.value if outcome else LEFT
            await self._follow_up(AuditEvent.ENDED, {"assignment": digest.hex(), "outcome": told})

    async def witness(self, run_id: RunId, round_number: int, sequence: int, head: Digest) -> None:
        """Note where the coordinator's audit chain was, for whoever checks its log against this copy."""
        facts = {"run": run_id.hex(), "round": round_number, "sequence": sequence, "head": head.hex()}
        if facts == self._witnessed:
            return
        self._witnessed = facts
        await self._follow_up(AuditEvent.HEAD, facts)

    async def _follow_up(self, event: AuditEvent, facts: dict[str, Any]) -> None:
        # What left was noted before it did; for want of the rest a round is not given up.
        try:
            await asyncio.to_thread(self._append, event, facts)
        except (RavanError, OSError) as error:
            log.warning("the audit file cannot be written", what=event.value, why=str(error))

    def _append(self, event: AuditEvent, facts: dict[str, Any]) -> None:
        time = datetime.fromtimestamp(self._clock.now(), UTC).isoformat(timespec="seconds")
        line = json.dumps({"time": time, "event": event.value, **facts})
        make_private_folder(self._path.parent)
        with room_in(self._path.parent):
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, OWNER_ONLY)
            with os.fdopen(descriptor, "r+b", buffering=0) as file:
                # A line that a power cut broke off stays as it is; the next one does not run on from it.
                start = b"" if _ends_whole(descriptor) else b"\n"
                file.write(start + line.encode() + b"\n")
                os.fsync(descriptor)


def _ends_whole(descriptor: int) -> bool:
    if os.lseek(descriptor, 0, os.SEEK_END) == 0:
        return True
    os.lseek(descriptor, -1, os.SEEK_END)
    return os.read(descriptor, 1) == b"\n"
