"""What the coordinator has stored, read beside it: also while it is down, and without asking anything of it."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ravan.manifest.phases import JobState, RoundOutcome, RoundPhase

LOOK_EVERY_S: Final = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a job stands."""

    state: JobState
    message: str
    round_number: int
    """Of the last round; 0 before the first."""
    phase: RoundPhase | None
    outcome: RoundOutcome | None
    committed: int
    """Rounds that made a new version."""


class RoundBook:
    """The coordinator's database, for reading."""

    def __init__(self, database: Path, check: Callable[[], object] = lambda: None) -> None:
        """Read this database; `check` is called at each look and raises where nothing will come any more."""
        self._database = database
        self._check = check

    def standing(self, job_id: str) -> Standing:
        """Return where a job stands now."""
        with self._open() as connection:
            state, message = connection.execute(
                "SELECT state, message FROM jobs WHERE job_id = ?", (job_id,)
            ).fetchone()
            rounds = connection.execute(
                "SELECT number, phase, outcome FROM rounds WHERE job_id = ? ORDER BY number", (job_id,)
            ).fetchall()
        number, phase, outcome = rounds[-1] if rounds else (0, None, None)
        return Standing(
            state=JobState(state),
            message=message,
            round_number=number,
            phase=phase and RoundPhase(phase),
            outcome=outcome and RoundOutcome(outcome),
            committed=sum(outcome == RoundOutcome.COMMITTED for _, _, outcome in rounds),
        )

    async def until(self, job_id: str, is_so: Callable[[Standing], bool], *, within_s: float) -> Standing:
        """Look until a job stands as wanted; raise TimeoutError with where it stands instead."""
        end = time.monotonic() + within_s
        while not is_so(standing := self.standing(job_id)):
            self._check()
            if time.monotonic() > end:
                raise TimeoutError(f"After {within_s:.0f} s the job still stands at {standing}.")
            await asyncio.sleep(LOOK_EVERY_S)
        return standing

    @contextmanager
    def writing_barred(self) -> Iterator[None]:
        """Keep the coordinator from storing anything for as long as the block lasts, at most seconds."""
        with closing(sqlite3.connect(self._database, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, timeout=5)) as connection:
            yield connection
