"""Sensor windows: turbofan engines that run to failure, with a PatchTST that thirty other engines have pretrained.

C-MAPSS FD001 (`lab/data/cmapss`). Engines 31 to 75 train, in nature's split nine to a client; 76 to 80 validate; 81 to
100 test, as in the product's example (`deploy.examples.engines`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from deploy.examples.engines import LABELS, WINDOW, health, read_engines, write_patchtst
from lab.tasks.made_folder import made_once
from lab.tasks.settings import classification
from lab.tasks.task import LabTask
from ravan.data.series import SeriesExamples
from ravan.manifest.plan import Task
from ravan.tasks.loading import load_task_model

_BEFOREHAND: Final = range(1, 31)
_POOL: Final = range(31, 76)
_VALIDATION: Final = range(76, 81)
_TEST: Final = range(81, 101)
_PER_CLIENT: Final = 9
_STEP: Final = 2
"""Cycles from one window to the next."""

_Engines = Mapping[int, NDArray[np.float64]]


def load_engines() -> LabTask:
    """Cut the engines' lives into windows; the first time the base model is pretrained, which takes two minutes."""
    engines = read_engines()
    folder = made_once("patchtst", lambda path: _pretrain(path, engines))
    task = load_task_model(folder, classification(Task.SERIES_CLASSIFICATION, LABELS))
    pool, of_engine = cut_windows(engines, _POOL)
    return LabTask(
        name="engines",
        task=task,
        pool=task.encode(pool),
        owners=(of_engine - _POOL.start) // _PER_CLIENT,
        labels=np.asarray(pool.label_ids, np.int64),
        validation=task.encode(cut_windows(engines, _VALIDATION)[0]),
        test=task.encode(cut_windows(engines, _TEST)[0]),
        targets=("attention",),
    )


def cut_windows(engines: _Engines, numbers: Iterable[int]) -> tuple[SeriesExamples, NDArray[np.int64]]:
    """Return the windows of some engines, each with the label of its last cycle, and the engine of each."""
    values, starts, labels, owners, first = [], [], [], [], 0
    for number in numbers:
        life = engines[number]
        for start in range(0, len(life) - WINDOW + 1, _STEP):
            starts.append(first + start)
            labels.append(LABELS.index(health(len(life) - start - WINDOW)))
            owners.append(number)
        values.append(life)
        first += len(life)
    examples = SeriesExamples(
        values=np.concatenate(values).astype(np.float32),
        starts=np.asarray(starts, np.int64),
        window=WINDOW,
        label_ids=tuple(labels),
        left_out=0,
    )
    return examples, np.asarray(owners, np.int64)


def _pretrain(folder: Path, engines: _Engines) -> None:
    write_patchtst(folder, [engines[number] for number in _BEFOREHAND], epochs=8)
