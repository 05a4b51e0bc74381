"""Where the newest version of each job lies on this PC: one folder a job, old versions dropped.

`prepared.json` holds the job's signed plan, `kept.json` that of the version beside it. A version is on disk before the
file that names it, so that whoever reads the folder at any moment finds a whole model or none.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edge_agent.serving.kept import (
    KeptModel,
    KeptPlan,
    Mark,
    encode_model_file,
    encode_plan_file,
    mark_of,
    read_model_file,
    read_plan_file,
    write_version,
)
from ravan.errors import ErrorReason, StateError
from ravan.identity.keyfiles import make_private_folder, write_private
from ravan.ids import Digest, JobId, RunId
from ravan.manifest.plan import JobPlan

MODELS_FOLDER: Final = "models"
"""In an agent's state."""

_PREPARED: Final = "prepared.json"
_KEPT: Final = "kept.json"
_JOB_ID: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
"""What may name a folder; coordinators give no other ids."""


class ModelShelf:
    """A folder of models; one process writes, others may read. Every method blocks on the disk."""

    def __init__(self, root: Path) -> None:
        """Name the folder, which is made when there is something to keep."""
        self._root = root

    def put_plan(self, plan: KeptPlan) -> None:
        """Note that this PC takes part in a job; raise StateError for an id that names no folder."""
        folder = self._folder(plan.open()[0].job_id)
        make_private_folder(folder)
        write_private(folder / _PREPARED, encode_plan_file(plan))

    def plan_of_job(self, job_id: JobId) -> KeptPlan | None:
        """Return the plan of a job that this PC prepared."""
        return next((plan for plan, opened in self._prepared() if opened.job_id == job_id), None)

    def plan_of_run(self, run_id: RunId) -> KeptPlan | None:
        """Return the plan of a run that this PC prepared."""
        return next((plan for plan, opened in self._prepared() if opened.run_id == run_id), None)

    def plans(self) -> list[JobPlan]:
        """Return the plans of all jobs that this PC prepared or has a version of."""
        return [opened for _, opened in self._prepared()] + [model.plan for model in self.models()]

    def keep(self, plan: KeptPlan, state: bytes, *, round_number: int, now: float) -> None:
        """Make these bytes the job's version in place of an earlier one, and of earlier jobs of its name."""
        opened, _ = plan.open()
        folder, digest = self._folder(opened.job_id), Digest(hashlib.sha256(state).digest())
        write_version(folder, digest, state, folder / _KEPT, encode_model_file(plan, digest, round_number, now))
        self._drop_predecessors(opened)

    def has(self, plan: KeptPlan, round_number: int) -> bool:
        """Tell whether a whole version of the plan is here that this round made, or a later one."""
        opened, digest = plan.open()
        model = read_model_file(self._folder(opened.job_id) / _KEPT)
        return model is not None and model.plan_digest == digest and model.round_number >= round_number and model.whole

    def end_job(self, job_id: JobId) -> None:
        """Forget a job that is over and left nothing; where it left a version, that stays."""
        folder = self._folder(job_id)
        if not (folder / _KEPT).exists():
            shutil.rmtree(folder, ignore_errors=True)

    def models(self) -> tuple[KeptModel, ...]:
        """Return what can be used, newest first."""
        found = [model for folder in self._folders() if (model := read_model_file(folder / _KEPT)) is not None]
        return tuple(sorted(found, key=lambda model: model.kept_at, reverse=True))

    def mark(self) -> Mark:
        """Return what differs once a version was kept or dropped; nothing is read for it."""
        return mark_of(folder / _KEPT for folder in self._folders())

    def find(self, job: str) -> KeptModel:
        """Return the version of a job by its id, or of the newest job of this name; raise StateError NOT_FOUND."""
        models = self.models()
        of_id = [each for each in models if each.plan.job_id == job]
        found = of_id or [each for each in models if each.plan.job_name == job]
        if not found:
            raise _no_model(job, models)
        return found[0]

    def _drop_predecessors(self, plan: JobPlan) -> None:
        for folder in self._folders():
            model = read_model_file(folder / _KEPT)
            if model is not None and model.plan.job_name == plan.job_name and model.plan.job_id != plan.job_id:
                shutil.rmtree(folder)

    def _prepared(self) -> list[tuple[KeptPlan, JobPlan]]:
        plans = (read_plan_file(folder / _PREPARED) for folder in self._folders())
        return [(plan, plan.open()[0]) for plan in plans if plan is not None]

    def _folders(self) -> list[Path]:
        return sorted(path for path in self._root.iterdir() if path.is_dir()) if self._root.is_dir() else []

    def _folder(self, job_id: JobId) -> Path:
        if not _JOB_ID.fullmatch(job_id):
            raise StateError(
                f"The job id {job_id!r} names no folder.",
                reason=ErrorReason.MALFORMED,
                next_step="Tell HQ; its coordinator gives no such ids.",
            )
        return self._root / job_id


def _no_model(job: str, models: Sequence[KeptModel]) -> StateError:
    names = ", ".join(dict.fromkeys(each.plan.job_name for each in models))
    known = f"There are: {names}." if names else "The agent keeps one when a round that it took part in is committed."
    return StateError(
        f"This PC keeps no model of a job '{job}'.",
        reason=ErrorReason.NOT_FOUND,
        next_step=known,
    )
