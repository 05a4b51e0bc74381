"""What runs inside the evaluation process. One model and its encoded held-out examples are kept between calls."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from coordinator.evaluation.findings import AlignedBases, Evaluation, Inventory
from ravan.data.source import DataSource
from ravan.disk import room_in
from ravan.errors import ConfigError, ErrorReason
from ravan.ids import Digest
from ravan.manifest.plan import JobPlan, Precision, TrainingSettings
from ravan.offline import stay_offline

if TYPE_CHECKING:
    from ravan.tasks.task_model import EncodedExamples, TaskModel

_NICENESS: Final = 5
"""The daemon answers heartbeats on the same cores, and comes first."""


@dataclass(slots=True)
class _Kept:
    """The last model and the last data; there is room for one of each."""

    model_key: tuple[Path, TrainingSettings, Precision] | None = None
    task: TaskModel[Any] | None = None
    data_key: tuple[object, ...] | None = None
    data: EncodedExamples | None = None


_KEPT: Final = _Kept()


def prepare_process(threads: int) -> None:
    """Set up a fresh process: `threads` for torch, no downloads, quiet priority, gone when the daemon is."""
    stay_offline()
    # Ctrl-C reaches the whole terminal group; the daemon alone decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICENESS)
    threading.Thread(target=_follow_parent, daemon=True).start()
    import torch  # noqa: PLC0415 - only this process may import it

    torch.set_num_threads(threads)


def inspect_model(
    folder: Path, training: TrainingSettings, targets: tuple[str, ...], precision: Precision = Precision.FLOAT32
) -> Inventory:
    """Build the task's model and list what a job can adapt and must train whole.

    No `targets` means dense blocks alone. Raise ModelError MODEL_INVALID for a folder that is no model of the task's
    kind or cannot be held in `precision`, and ConfigError CONFIG_INVALID for a target that matches nothing or settings
    that do not suit the model.
    """
    from ravan.adapters.model import find_linears, remove  # noqa: PLC0415 - imports torch

    task = _task_model(folder, training, Precision.FLOAT32)
    remove(task.model)
    new_modules = {name.rpartition(".")[0] for name, _ in task.new_parameters}
    linears = find_linears(task.model, targets, exclude=new_modules) if targets else []
    if targets and not linears:
        raise ConfigError(
            f"[adapter] targets {', '.join(targets)} match only layers that are new and trained whole anyway.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="Name layers of the base model, such as query and value.",
        )
    inventory = Inventory(
        linears=tuple(linears),
        dense=task.new_parameters,
        parameters=sum(parameter.numel() for parameter in task.model.parameters()),
        model_type=task.model_type,
        training=task.training,
    )
    if precision is not Precision.FLOAT32:
        # One model at a time fits in memory, and this one must be known to work before a site trains it.
        del task
        _task_model(folder, training, precision)
    return inventory


def write_directions(folder: Path, plan: JobPlan, held_out: DataSource, into: Path) -> tuple[Path, AlignedBases]:
    """Find the directions of an `aligned` job, write them into a new file, and draw the bases that they lead.

    Raise what `inspect_model` raises, DataError for the examples, ResourceError DISK_FULL.
    """
    from coordinator.evaluation.alignment import look_for_directions  # noqa: PLC0415 - imports torch
    from ravan.adapters.basis import basis_digest, drawn_bases  # noqa: PLC0415 - reads numbers only here
    from ravan.adapters.directions import encode_directions  # noqa: PLC0415

    task = _task_model(folder, plan.training, Precision.FLOAT32)
    found = look_for_directions(task, plan, _held_out(task, held_out))
    draw = drawn_bases(plan.adapter, lambda matrix: found[matrix.ordinal])
    bases = tuple(basis_digest(draw(matrix)) for matrix in plan.matrices)
    content = encode_directions(found)
    with room_in(into), tempfile.NamedTemporaryFile(dir=into, delete=False) as file:
        try:
            file.write(content)
            file.flush()
        except OSError:
            os.unlink(file.name)
            raise
    return Path(file.name), AlignedBases(directions=Digest(hashlib.sha256(content).digest()), bases=bases)


def evaluate_state(
    folder: Path, plan: JobPlan, state: bytes, held_out: DataSource, directions: Path | None = None
) -> Evaluation:
    """Score one version, given as `encode_state`'s bytes, on the held-out examples.

    `directions` is the file of what the plan's bases lead with, where it names one. Raise TransferError MALFORMED for a
    state or directions that are not the plan's, DataError for the held-out file, ModelError for the folder.
    """
    import torch  # noqa: PLC0415 - only this process may import it

    from ravan.adapters.model import inject  # noqa: PLC0415 - imports torch
    from ravan.adapters.planned_bases import BasisFiles, planned_bases  # noqa: PLC0415 - reads numbers only here
    from ravan.adapters.state import decode_state  # noqa: PLC0415

    blocks = decode_state(plan, state)
    task = _task_model(folder, plan.training, plan.precision)
    data = _held_out(task, held_out)
    with torch.inference_mode():
        inject(task.model, plan, blocks, frozenset(), planned_bases(plan, BasisFiles(directions=directions)))
        return score(task, data)


def score(task: TaskModel[Any], data: EncodedExamples) -> Evaluation:
    """Score a model as it stands."""
    from ravan.tasks.passes import measure  # noqa: PLC0415 - imports torch

    found = measure(task, data)
    return Evaluation(accuracy=found.accuracy, loss=found.loss, examples=found.examples)


def _task_model(folder: Path, training: TrainingSettings, precision: Precision) -> TaskModel[Any]:
    from ravan.tasks.loading import load_task_model  # noqa: PLC0415 - imports torch

    key = (folder, training, precision)
    if _KEPT.task is None or _KEPT.model_key != key:
        # The old model goes before the new one comes: one fits in memory, two may not.
        _KEPT.task, _KEPT.data_key, _KEPT.data = None, None, None
        _KEPT.task, _KEPT.model_key = load_task_model(folder, training, precision), key
    return _KEPT.task


def _held_out(task: TaskModel[Any], source: DataSource) -> EncodedExamples:
    from ravan.data.examples import read_examples  # noqa: PLC0415 - the daemon knows this module, and reads no data

    key = (task, source.path, source.text, source.label, source.group, tuple(source.columns.items()))
    if _KEPT.data is None or _KEPT.data_key != key:
        _KEPT.data, _KEPT.data_key = task.encode(read_examples(source, task.training)), key
    return _KEPT.data


def _follow_parent() -> None:
    """End this process with the daemon, also when that was killed and could tell nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)
