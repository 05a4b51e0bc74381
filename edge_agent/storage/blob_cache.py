"""Content by hash: base models, differing bases and model versions, each checked when this process first uses it.

What a job of this PC needs stays, whether the job runs or left a model for the plant (`edge_agent.serving.shelf`). A
version is dropped for the next one of its job; all else when nobody has asked for it for a month, or earlier where
the agent's share of the disk is needed for something else.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from edge_agent.storage.share import DiskShare
from ravan.codec.chunks import content_digest
from ravan.codec.documents import model_digest
from ravan.errors import ErrorReason, ResourceError
from ravan.ids import Digest
from ravan.manifest.plan import JobPlan

_UNUSED_S: Final = 30 * 86_400.0
"""After so long without use nobody is expected to come back for it."""

_NAME_LENGTH: Final = 64
"""Of a digest in hex."""

_UNFINISHED: Final = ".part"
"""Ends the name of what is not here as a whole yet."""


class BlobCache:
    """A folder of content by hash within a share of the disk; one process uses it."""

    def __init__(
        self,
        root: Path,
        share: DiskShare,
        kept_plans: Callable[[], Iterable[JobPlan]] = tuple,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Use or make the folder; `kept_plans` are those whose models the plant may still ask."""
        self._blobs = root / "blobs"
        self._models = root / "models"
        self._share = share
        self._kept_plans = kept_plans
        self._now = now
        self._checked: set[Digest] = set()
        self._jobs: dict[Digest, JobPlan] = {}
        self._versions: dict[Digest, Digest] = {}
        """By the digest of the plan, like the jobs."""
        self._arriving: set[Digest] = set()
        self._blobs.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path_of(self, digest: Digest) -> Path:
        """Return where this content is or will be."""
        return self._blobs / digest.hex()

    def find(self, digest: Digest) -> Path | None:
        """Return the path of sound content, and note that it is used; drop what is damaged. Blocks on disk."""
        path = self.path_of(digest)
        if not path.is_file():
            return None
        if digest not in self._checked and not _has_digest(path, digest):
            path.unlink()
            return None
        self._checked.add(digest)
        os.utime(path, (self._now(), self._now()))
        return path

    @contextmanager
    def receiving(self, digest: Digest) -> Iterator[Path]:
        """Keep what has come of this content; yields where the whole goes, which the block leaves there checked."""
        self._arriving.add(digest)
        try:
            yield self.path_of(digest)
            self._checked.add(digest)
        finally:
            self._arriving.discard(digest)

    def begin_job(self, plan_digest: Digest, plan: JobPlan) -> None:
        """Keep what the job's model is built from until the job ends."""
        self._jobs[plan_digest] = plan

    def use_version(self, plan_digest: Digest, version: Digest) -> None:
        """Keep this version for the job's round, and drop the one of the round before. Blocks on disk."""
        before = self._versions.get(plan_digest)
        self._versions[plan_digest] = version
        self._drop_version(before)

    def end_job(self, plan_digest: Digest) -> None:
        """Let go of what was kept for a job, and drop its version. Blocks on disk."""
        self._jobs.pop(plan_digest, None)
        self._drop_version(self._versions.pop(plan_digest, None))

    def make_room(self, size_bytes: int) -> None:
        """Have the disk share hold this much more, dropping what nobody needs; raise ResourceError (DISK_FULL).

        Blocks on disk.
        """
        stored = self._stored()
        missing = self._share.over_by(size_bytes)
        if missing or any(self._is_forgotten(used_at) for used_at, _ in stored):
            missing = self._drop_idle(stored, size_bytes)
        if missing:
            raise _no_room(self._share, size_bytes, missing)

    def _stored(self) -> list[tuple[float, Path]]:
        """Return all content with the time of its last use, longest unused first."""
        found = []
        for path in self._blobs.iterdir():
            with suppress(FileNotFoundError):  # another thread has dropped or finished it
                found.append((path.stat().st_mtime, path))
        return sorted(found)

    def _drop_idle(self, stored: Iterable[tuple[float, Path]], size_bytes: int) -> int:
        """Drop what is forgotten, and what nobody needs while room is missing; return what still is."""
        plans = [*self._jobs.values(), *self._kept_plans()]
        needed = {each.hex() for each in (*_contents_of(plans), *self._versions.values(), *self._arriving)}
        self._drop_folders({model_digest(plan.model_files).hex() for plan in plans})
        missing = self._share.over_by(size_bytes)
        for used_at, path in stored:
            if path.name.removesuffix(_UNFINISHED) not in needed and (missing or self._is_forgotten(used_at)):
                self._drop(path)
                missing = self._share.over_by(size_bytes)
        return missing

    def _is_forgotten(self, used_at: float) -> bool:
        return self._now() - used_at > _UNUSED_S

    def _drop_version(self, version: Digest | None) -> None:
        # Jobs that begin alike share their first version.
        if version is not None and version not in self._versions.values():
            self._drop(self.path_of(version))

    def _drop(self, path: Path) -> None:
        # Windows drops no file that is open; it goes the next time.
        with suppress(OSError, ValueError):
            path.unlink(missing_ok=True)
            self._checked.discard(Digest(bytes.fromhex(path.name.removesuffix(_UNFINISHED))))

    def _drop_folders(self, needed: set[str]) -> None:
        """Drop folders of links to a model's files, which hold the files' space; they are made again when needed."""
        for folder in self._models.iterdir() if self._models.is_dir() else ():
            # One that another thread is just putting together has a shorter name.
            if len(folder.name) == _NAME_LENGTH and folder.name not in needed:
                shutil.rmtree(folder, ignore_errors=True)


def _contents_of(plans: Iterable[JobPlan]) -> Iterable[Digest]:
    for plan in plans:
        yield from plan.files()
        yield from (matrix.basis_digest for matrix in plan.matrices)


def _has_digest(path: Path, digest: Digest) -> bool:
    with path.open("rb") as file:
        return content_digest(file) == digest


def _no_room(share: DiskShare, size_bytes: int, missing: int) -> ResourceError:
    return ResourceError(
        f"The agent may take {share.limit_bytes >> 20} MiB of the disk and holds {share.used_bytes() >> 20} MiB that"
        f" are needed; {(size_bytes >> 20) + 1} MiB more do not fit.",
        reason=ErrorReason.DISK_FULL,
        next_step=f"Raise disk_limit_mb by {(missing >> 20) + 1} or more, or leave this job to other PCs.",
    )
