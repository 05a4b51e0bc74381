"""A job's base model and what its bases need, in the agent's cache; found without asking anybody."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_agent.training.model_folder import assemble_model_folder
from ravan.adapters.planned_bases import BasisFiles
from ravan.codec.chunks import content_digest
from ravan.errors import ErrorReason, ModelError
from ravan.ids import Digest
from ravan.manifest.plan import JobPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseFiles:
    """What a plan's model is built from."""

    folder: Path
    """The base model's files by name."""
    bases: BasisFiles


def find_base_files(plan: JobPlan, cache_dir: Path) -> BaseFiles:
    """Return a plan's files from the cache; raise ModelError where one is missing or damaged. Blocks on disk."""
    blobs = cache_dir / "blobs"
    found = {file.path: _checked(blobs / file.sha256.hex(), file.sha256, plan) for file in plan.model_files}
    folder = assemble_model_folder(plan, found, cache_dir / "models")
    wanted = {each.ordinal: each.basis_digest for each in plan.matrices}
    # The agent has fetched those, and only those, that this machine draws otherwise.
    fetched = {ordinal: digest for ordinal, digest in wanted.items() if (blobs / digest.hex()).exists()}
    whole = {ordinal: _checked(blobs / digest.hex(), digest, plan) for ordinal, digest in fetched.items()}
    directions = _checked(blobs / plan.directions.hex(), plan.directions, plan) if plan.directions else None
    return BaseFiles(folder=folder, bases=BasisFiles(directions=directions, whole=whole))


def _checked(path: Path, digest: Digest, plan: JobPlan) -> Path:
    try:
        with path.open("rb") as file:
            sound = content_digest(file) == digest
    except OSError:
        sound = False
    if not sound:
        raise ModelError(
            f"A file of the base model '{plan.model_name}' is missing from the cache or damaged: {path}.",
            reason=ErrorReason.MODEL_MISSING,
            next_step="Start the agent while a job with this base model runs; it fetches the file again.",
        )
    return path
