"""The sites that this one has met, kept on disk: written before it trains with them, edited by `ravan-agent site`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from edge_agent.identity.lock import hold_briefly
from edge_agent.session.acquaintances import Acquaintance, Acquaintances
from ravan.errors import ErrorReason, IdentityError
from ravan.identity.keyfiles import read_private, write_private
from ravan.ids import SiteId
from ravan.manifest.assignment import Member

FILE_NAME: Final = "known_sites.json"
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """What an accepted assignment added."""

    newcomers: tuple[Acquaintance, ...]
    first: bool
    """Whether nobody was known before."""


class AcquaintanceFile:
    """One small JSON file, read anew for every question and replaced as a whole."""

    def __init__(self, state_dir: Path) -> None:
        """Name the file in the agent's state folder; nothing is read yet."""
        self._path = state_dir / FILE_NAME

    def read(self) -> Acquaintances:
        """Return all that are known; raise IdentityError when the file is damaged or may not be read."""
        if not self._path.exists():
            return Acquaintances()
        content = read_private(self._path)
        try:
            return Acquaintances(_read_one(site, entry) for site, entry in json.loads(content).items())
        except (ValueError, AttributeError, TypeError, KeyError, OverflowError) as error:
            raise IdentityError(
                f"{self._path} is damaged; it says which key each other site has.",
                reason=ErrorReason.MALFORMED,
                next_step="Restore it from a backup. Deleted, it is made anew, and keys are taken as they then come.",
            ) from error

    def meet(self, members: Sequence[Member], now: float) -> Meeting:
        """Check the other members of an assignment and write the newcomers down. Blocks on the disk.

        Raises IdentityError IDENTITY_MISMATCH for a changed key, and then keeps nobody; ResourceError DISK_FULL.
        """
        with hold_briefly(self._lock):
            known = self.read()
            newcomers = known.check(members)
            if newcomers:
                self._write(known.meet(newcomers, now))
        met = (Acquaintance(site=each.site, identity_key=each.identity_key, first_seen=now) for each in newcomers)
        return Meeting(newcomers=tuple(met), first=not len(known))

    def forget(self, site: SiteId) -> Acquaintance:
        """Drop a site and return what was known of it; raise StateError NOT_FOUND for one never met."""
        self.read().forget(site)  # nothing is made on disk for a name that is not there
        with hold_briefly(self._lock):
            forgotten, others = self.read().forget(site)
            self._write(others)
        return forgotten

    @property
    def _lock(self) -> Path:
        return self._path.with_suffix(".lock")

    def _write(self, known: Acquaintances) -> None:
        content = {
            each.site: {"identity_key": each.identity_key.hex(), "first_seen": describe_time(each.first_seen)}
            for each in known
        }
        write_private(self._path, json.dumps(content, indent=2).encode() + b"\n")


def describe_time(seconds: float) -> str:
    """Return a time since the Unix epoch as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _read_one(site: str, entry: Any) -> Acquaintance:
    key = bytes.fromhex(entry["identity_key"])
    if len(key) != _KEY_BYTES:
        raise ValueError("no Ed25519 public key")
    return Acquaintance(
        site=SiteId(site),
        identity_key=key,
        first_seen=datetime.fromisoformat(entry["first_seen"]).timestamp(),
    )
