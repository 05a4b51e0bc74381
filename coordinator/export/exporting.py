"""A job's newest version as files for use elsewhere, with a lineage file that says where they come from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, Final

from coordinator.export.merging import write_merged
from ravan.adapters.export import export_peft
from ravan.adapters.planned_bases import BasisFiles, planned_bases
from ravan.adapters.state import decode_state
from ravan.codec.documents import model_digest
from ravan.errors import ConfigError, ErrorReason, StateError
from ravan.manifest.plan import JobPlan
from ravan.version import VERSION

LINEAGE_FILE: Final = "ravan-lineage.json"


class ExportFormat(StrEnum):
    """What an export is made for."""

    PEFT = "peft"
    """A plain LoRA adapter that the `peft` package loads."""
    HEADS = "heads"
    """The cores and dense blocks themselves, with the plan and the directions that the bases follow from."""
    MERGED = "merged"
    """The base model with the heads folded in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """What the coordinator knows of a version beside the plan."""

    rounds: int
    """Committed rounds behind the version."""
    accuracy: float | None
    """On the held-out texts, 0 to 1; None when it was never evaluated."""
    exported_at: float
    """Seconds since the epoch."""
    averaged: int = 1
    """Versions, the newest first, of which it is the mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What a version is not whole without, and does not hold."""

    base_model: str | None = None
    """Where a reader of the adapter finds the base model; the plan's name for it unless given."""
    base_folder: Path | None = None
    """The base model's files, which a merged model is made from."""
    directions: Path | None = None
    """What the bases lead with, where the plan names such a file."""


def export_job(
    plan: JobPlan,
    state: bytes,
    out_dir: Path,
    export_format: ExportFormat,
    lineage: Lineage,
    beside: Beside = Beside(),
    rank: int | None = None,
) -> tuple[Path, ...]:
    """Write one version, given as `encode_state`'s bytes, into `out_dir` and return the files, lineage last.

    `rank` is the most that a matrix of an adapter may have. Raise StateError ALREADY_EXISTS for a folder that is not
    empty, ConfigError for a format that cannot be had, ModelError for base files that are not the plan's,
    TransferError MALFORMED for a state or directions that are not.
    """
    blocks = decode_state(plan, state)
    if export_format is ExportFormat.MERGED and beside.base_folder is None:
        raise ConfigError(
            "A merged model cannot be made without the base model's files.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="Run `ravan-coordinator export`, which fetches them.",
        )
    if rank is not None and export_format is not ExportFormat.PEFT:
        raise ConfigError(
            f"Only an adapter can be cut to a rank, not the format '{export_format}'.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="Leave --rank out, or export with --format peft.",
        )
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise StateError(
            f"{out_dir} exists and is not an empty folder.",
            reason=ErrorReason.ALREADY_EXISTS,
            next_step="Name a new folder with --out.",
        )
    name, source = beside.base_model or plan.model_name, planned_bases(plan, BasisFiles(directions=beside.directions))
    write: Mapping[ExportFormat, Callable[[], object]] = {
        ExportFormat.PEFT: lambda: export_peft(plan, blocks, out_dir, name, source, rank=rank),
        ExportFormat.HEADS: lambda: _write_heads(plan, state, out_dir, beside.directions),
        ExportFormat.MERGED: lambda: write_merged(plan, blocks, beside.base_folder or out_dir, out_dir, source),
    }
    write[export_format]()
    files = sorted(out_dir.iterdir())
    _write_json(out_dir / LINEAGE_FILE, _describe(plan, state, export_format, lineage, files))
    return (*files, out_dir / LINEAGE_FILE)


def _write_heads(plan: JobPlan, state: bytes, out_dir: Path, directions: Path | None) -> None:
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "heads.safetensors").write_bytes(state)
    if directions is not None:
        shutil.copyfile(directions, out_dir / "directions.safetensors")
    _write_json(out_dir / "plan.json", _plain(plan))


def _describe(
    plan: JobPlan, state: bytes, export_format: ExportFormat, lineage: Lineage, files: list[Path]
) -> dict[str, Any]:
    return {
        "product": f"ravan {VERSION}",
        "format": export_format.value,
        "job_id": plan.job_id,
        "job_name": plan.job_name,
        "run_id": plan.run_id.hex(),
        "rounds": lineage.rounds,
        "averaged": lineage.averaged,
        "accuracy": lineage.accuracy,
        "exported_at": lineage.exported_at,
        "base_model": plan.model_name,
        "base_model_digest": model_digest(plan.model_files).hex(),
        "version_digest": hashlib.sha256(state).hexdigest(),
        "labels": list(plan.training.labels),
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
    }


def _plain(value: object) -> Any:
    """Return a value of the manifest as JSON holds it: bytes in hexadecimal, enums by value."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
