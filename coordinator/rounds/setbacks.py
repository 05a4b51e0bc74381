"""Rounds that made no new version, one after another: how long a job waits after each, and when it pauses. Pure."""

from __future__ import annotations

from typing import Final

from ravan.manifest.phases import RoundOutcome

FAILURES_IN_A_ROW: Final = 5
"""Rounds without a new version, one after another, before the job pauses for an operator to look."""

FIRST_PAUSE_S: Final = 2.0
"""Wait after a round without a new version; doubles with each further one."""


class Setbacks:
    """Count them since the last new version."""

    def __init__(self) -> None:
        self.sentence = ""
        """What came of the last round."""
        self._pause_s = 0.0
        self._resume_at = 0.0
        self._failures = 0
        self._refusals = 0

    def note(self, number: int, outcome: RoundOutcome, detail: str, now: float) -> None:
        """Take in that round `number` made no new version."""
        self._failures += 1
        self._refusals += outcome is RoundOutcome.REFUSED
        self._pause_s = FIRST_PAUSE_S * 2 ** (self._failures - 1)
        self._resume_at = now + self._pause_s
        self.sentence = f"Round {number} made no new version. {detail}".strip()

    def resume_at(self, now: float) -> float:
        """Return when the next round may start, seconds since the epoch."""
        # A clock that is set back makes no wait longer than twice what it shall be.
        self._resume_at = min(self._resume_at, now + self._pause_s)
        return self._resume_at

    @property
    def advice(self) -> str:
        """Return what an operator should do before the job goes on; empty while it tries by itself."""
        if self._failures < FAILURES_IN_A_ROW:
            return ""
        if self._refusals == self._failures:
            return (
                f"{self._failures} rounds in a row were refused; `job stop` and submit it with lower learning rates or"
                " a wider gate_tolerance, or `job resume`."
            )
        return f"{self._failures} rounds in a row failed; look at the sites, then `job resume`."
