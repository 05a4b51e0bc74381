"""A job's base model, and the bases that are not drawn here, in the agent's cache; found without asking anybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_agent.training.model_folder import assemble_model_folder
from ravan.codec.chunks import content_digest
from ravan.errors import ErrorReason, ModelError
from ravan.ids import Digest
from ravan.manifest.plan import JobPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseFiles:
    """What a plan's model is built from."""

    folder: Path
    """The base model's files by name."""
    bases: Mapping[int, Path]
    """Files of bases that this machine does not draw, or draws differently, by matrix ordinal."""


def find_base_files(plan: JobPlan, cache_dir: Path) -> BaseFiles:
    """Return a plan's files from the cache; raise ModelError where one is missing or damaged. Blocks on disk."""
    blobs = cache_dir / "blobs"
    found = {file.path: _checked(blobs / file.sha256.hex(), file.sha256, plan) for file in plan.model_files}
    folder = assemble_model_folder(plan, found, cache_dir / "models")
    wanted = {each.ordinal: each.basis_digest for each in plan.matrices}
    if plan.adapter.basis.is_drawn:
        # The agent has fetched those, and only those, that this machine draws otherwise.
        fetched = {ordinal: digest for ordinal, digest in wanted.items() if (blobs / digest.hex()).exists()}
    else:
        fetched = wanted
    bases = {ordinal: _checked(blobs / digest.hex(), digest, plan) for ordinal, digest in fetched.items()}
    return BaseFiles(folder=folder, bases=bases)


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
