"""The highest round of each run that this site took part in, kept on disk so that no process does one twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ravan.errors import ErrorReason, StateError
from ravan.identity.keyfiles import write_private
from ravan.ids import RunId


class RoundLedger:
    """One small JSON file, replaced as a whole."""

    def __init__(self, path: Path) -> None:
        """Read the file; raise StateError when it is damaged."""
        self._path = path
        self._rounds = _read(path)

    @property
    def rounds(self) -> Mapping[RunId, int]:
        """Return the highest round by run."""
        return dict(self._rounds)

    def remember(self, run_id: RunId, round_number: int) -> None:
        """Write a round down; raise ResourceError DISK_FULL when there is no room. Blocks on the disk."""
        rounds = {**self._rounds, run_id: max(round_number, self._rounds.get(run_id, 0))}
        text = json.dumps({run.hex(): number for run, number in rounds.items()}, indent=2)
        write_private(self._path, text.encode() + b"\n")
        self._rounds = rounds


def _read(path: Path) -> dict[RunId, int]:
    try:
        content = json.loads(path.read_bytes())
        return {RunId(bytes.fromhex(run)): int(number) for run, number in content.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError, TypeError) as error:
        raise StateError(
            f"{path} is damaged; it says in which rounds this site took part.",
            reason=ErrorReason.WRONG_STATE,
            next_step="Restore it from a backup, or delete it once the job that is running has ended.",
        ) from error
