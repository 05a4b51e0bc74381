"""Which of the coordinator's addresses comes next; the one that worked last comes first, also after a restart."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from edge_agent.identity.reach import is_elsewhere, nowhere
from ravan.errors import RavanError
from ravan.identity.join import CoordinatorAddress
from ravan.identity.keyfiles import write_private
from ravan.rpc.addresses import target_of


class Rota:
    """Addresses in turn."""

    def __init__(self, places: Sequence[CoordinatorAddress], memory: Path | None = None) -> None:
        """Begin with the one that the file `memory` names, which is written when another one works."""
        self._places = places
        self._memory = memory
        self._at = self._remembered()
        self._failures: list[RavanError] = []

    @property
    def place(self) -> CoordinatorAddress:
        """The address of now."""
        return self._places[self._at]

    def worked(self) -> None:
        """Note that the coordinator answered at the address of now; what is not remembered is tried again."""
        self._failures.clear()
        if self._memory is None or self._at == self._remembered():
            return
        with suppress(OSError, RavanError):
            write_private(self._memory, f"{_name(self.place)}\n".encode())

    def failed(self, error: RavanError) -> RavanError | None:
        """Turn to the next address; return what to raise when all have failed, or when none can do better."""
        if not is_elsewhere(error):
            self._failures.clear()
            return error
        self._failures.append(error)
        self._at = (self._at + 1) % len(self._places)
        if len(self._failures) < len(self._places):
            return None
        failures, self._failures = self._failures, []
        return nowhere(failures)

    def _remembered(self) -> int:
        names = [_name(place) for place in self._places]
        if self._memory is not None:
            with suppress(OSError, ValueError):
                return names.index(self._memory.read_text(encoding="utf-8").strip())
        return 0


def _name(place: CoordinatorAddress) -> str:
    return target_of(place.host, place.site_port)
