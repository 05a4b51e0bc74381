"""Mutants that may live, and why: `equivalents.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mutation.mutants import Mutant

PATH: Final = Path(__file__).with_name("equivalents.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivalent:
    """Mutants of one statement to which no test can object; told by their text, since lines move."""

    module: str
    scope: str
    before: str
    after: tuple[str, ...]
    reason: str

    def covers(self, module: str, mutant: Mutant) -> bool:
        """Tell whether it is about this mutant."""
        place = (self.module, self.scope, self.before)
        return place == (module, mutant.scope, mutant.before) and mutant.after in self.after


def read_equivalents() -> tuple[Equivalent, ...]:
    """Read the file; raise ValueError for an entry without a reason."""
    entries = tomllib.loads(PATH.read_text(encoding="utf-8")).get("equivalent", [])
    found = tuple(Equivalent(**{**entry, "after": tuple(entry["after"])}) for entry in entries)
    bare = [each.before for each in found if not each.reason.strip()]
    if bare:
        raise ValueError(f"{PATH.name} gives no reason for: {', '.join(bare)}")
    return found
