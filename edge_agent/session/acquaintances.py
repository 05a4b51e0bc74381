"""Which other sites this one has met, and under which key; a site that shows another key is refused. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Self

from ravan.errors import ErrorReason, IdentityError, StateError
from ravan.ids import SiteId
from ravan.manifest.assignment import Member

FINGERPRINT_DIGITS: Final = 16


def fingerprint(identity_key: bytes) -> str:
    """Return the start of the key's SHA-256 in hex: short enough for people to compare."""
    return hashlib.sha256(identity_key).hexdigest()[:FINGERPRINT_DIGITS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquaintance:
    """Another site as it was first seen."""

    site: SiteId
    identity_key: bytes
    """Ed25519 public key, 32 bytes."""
    first_seen: float
    """Seconds since the Unix epoch."""

    @property
    def fingerprint(self) -> str:
        """Name the key for people."""
        return fingerprint(self.identity_key)


class Acquaintances:
    """All sites that were members of accepted assignments; a value that is replaced, never changed."""

    def __init__(self, known: Iterable[Acquaintance] = ()) -> None:
        self._known: Mapping[SiteId, Acquaintance] = {each.site: each for each in known}

    def __iter__(self) -> Iterator[Acquaintance]:
        return iter(sorted(self._known.values(), key=lambda each: each.site))

    def __len__(self) -> int:
        return len(self._known)

    def check(self, members: Iterable[Member]) -> tuple[Member, ...]:
        """Return the members never met before; raise IdentityError IDENTITY_MISMATCH when a site shows another key."""
        keys = {site: known.identity_key for site, known in self._known.items()}
        newcomers: list[Member] = []
        changed: list[SiteId] = []
        for member in members:
            if member.site not in keys:
                newcomers.append(member)
            # A newcomer may not stand there a second time under another key either.
            elif keys[member.site] != member.identity_key:
                changed.append(member.site)
            keys.setdefault(member.site, member.identity_key)
        if changed:
            raise _changed_key(changed)
        return tuple(newcomers)

    def meet(self, newcomers: Iterable[Member], now: float) -> Self:
        """Return these and the newcomers."""
        added = (Acquaintance(site=m.site, identity_key=m.identity_key, first_seen=now) for m in newcomers)
        return type(self)((*self._known.values(), *added))

    def forget(self, site: SiteId) -> tuple[Acquaintance, Self]:
        """Return what was known of a site, and the others; raise StateError NOT_FOUND for one never met."""
        known = self._known.get(site)
        if known is None:
            raise StateError(
                f"This PC has never met a site '{site}'.",
                reason=ErrorReason.NOT_FOUND,
                next_step="`ravan-agent site list` shows those that it has met.",
            )
        return known, type(self)(each for each in self._known.values() if each.site != site)


def _changed_key(sites: list[SiteId]) -> IdentityError:
    names = ", ".join(f"'{site}'" for site in dict.fromkeys(sites))
    return IdentityError(
        f"The round is refused: another key than before stands for the site {names}.",
        reason=ErrorReason.IDENTITY_MISMATCH,
        next_step="Ask the people at that site, not headquarters, whether they enrolled again. If they did:"
        " `ravan-agent site forget NAME`. If not, somebody poses as them.",
    )
