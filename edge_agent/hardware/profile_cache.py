"""Measured job profiles on disk, so that an agent that starts again does not measure again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ravan.identity.keyfiles import make_private_folder, write_private
from ravan.ids import Digest
from ravan.manifest.profile import JobProfile

MEMORY_MODEL: Final = 2
"""Which processes the figures of memory count: from 2 on the agent's own beside the one that holds the model.

Raise it with every change of what is counted: what was measured otherwise is measured again.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredJob:
    """A profile and what it holds for; the memory limit is no part of it."""

    profile: JobProfile
    job_name: str
    matrices: int
    """Adapted matrices of the job."""
    threads: int
    """Threads that it was measured with."""


class ProfileCache:
    """One JSON file a plan."""

    def __init__(self, folder: Path) -> None:
        """Keep files in `folder`, made when there is something to keep."""
        self._folder = folder

    def find(self, plan_digest: Digest, threads: int) -> JobProfile | None:
        """Return what was measured for this plan with so many threads."""
        measured = _read(self._folder / f"{plan_digest.hex()}.json")
        return measured.profile if measured is not None and measured.threads == threads else None

    def keep(self, measured: MeasuredJob) -> None:
        """Write a measurement down; raise ResourceError DISK_FULL when there is no room."""
        content = dataclasses.asdict(measured) | {"memory_model": MEMORY_MODEL}
        content["profile"]["plan_digest"] = measured.profile.plan_digest.hex()
        make_private_folder(self._folder)
        path = self._folder / f"{measured.profile.plan_digest.hex()}.json"
        write_private(path, json.dumps(content, indent=2).encode() + b"\n")

    def all(self) -> Iterator[MeasuredJob]:
        """Yield everything that was measured on this PC."""
        for path in sorted(self._folder.glob("*.json")):
            if (measured := _read(path)) is not None:
                yield measured


def _read(path: Path) -> MeasuredJob | None:
    """Read one file; what is missing, damaged or counted otherwise is measured again."""
    try:
        content = json.loads(path.read_bytes())
        if content.pop("memory_model") != MEMORY_MODEL:
            return None
        profile = content.pop("profile")
        digest = Digest(bytes.fromhex(profile.pop("plan_digest")))
        # A file of an older release has neither list, and its figures are those of another model of cost.
        reached_bytes, reached_s = tuple(profile.pop("ram_reached_bytes")), tuple(profile.pop("step_reached_s"))
        known = JobProfile(plan_digest=digest, ram_reached_bytes=reached_bytes, step_reached_s=reached_s, **profile)
        return MeasuredJob(profile=known, **content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
