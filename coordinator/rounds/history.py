"""What the records of a job's rounds, by number, tell of where the job stands. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from coordinator.store.records import RoundRecord
from ravan.ids import BlockId
from ravan.manifest.phases import RoundOutcome


def following_number(rounds: Sequence[RoundRecord]) -> int:
    """Return the number of the round after these."""
    return rounds[-1].number + 1 if rounds else 1


def count_committed(rounds: Sequence[RoundRecord]) -> int:
    """Return how many rounds made a new version."""
    return sum(record.outcome is RoundOutcome.COMMITTED for record in rounds)


def last_end(rounds: Sequence[RoundRecord], otherwise: float) -> float:
    """Return when the last round ended, seconds since the epoch, or `otherwise` where there was none."""
    return rounds[-1].started_at + sum(rounds[-1].phase_seconds.values()) if rounds else otherwise


def last_clips(rounds: Sequence[RoundRecord]) -> Mapping[BlockId, float] | None:
    """Return the clips of the last round, for a start whose predecessor's summed flags are gone."""
    return rounds[-1].clips if rounds and rounds[-1].clips else None
