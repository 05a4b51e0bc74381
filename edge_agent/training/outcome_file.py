"""A trained update on disk: written before the site says that it has trained, deleted once it is masked."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.training.hashed_file import read_hashed, write_hashed
from edge_agent.training.outcome import TrainingCost, TrainingOutcome
from ravan.ids import BlockId
from ravan.secagg.statistics import LocalStatistics


def write_outcome(path: Path, outcome: TrainingOutcome) -> None:
    """Write an update, readable by its owner alone; raise ResourceError (DISK_FULL). Blocks."""
    arrays: dict[str, NDArray[Any]] = {f"delta.{block.pack():016x}": delta for block, delta in outcome.deltas.items()}
    arrays |= {f"score.{block.pack():016x}": np.array(score) for block, score in outcome.scores.items()}
    statistics, cost = outcome.statistics, outcome.cost
    arrays["counts"] = np.array(
        [statistics.examples, statistics.correct, outcome.held_examples, cost.extra_peak_bytes], np.int64
    )
    arrays["sums"] = np.array([statistics.loss_sum, cost.step_cpu_s], np.float64)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    write_hashed(path, file.getvalue())


def read_outcome(path: Path) -> TrainingOutcome | None:
    """Return the update that was written; None when there is none, or it is damaged. Blocks."""
    raw = read_hashed(path)
    if raw is None:
        return None
    with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
        content = dict(arrays)
    examples, correct, held, peak = content.pop("counts").tolist()
    loss_sum, step_cpu_s = content.pop("sums").tolist()
    parts = {name: (BlockId.unpack(int(name.partition(".")[2], 16)), value) for name, value in content.items()}
    return TrainingOutcome(
        deltas={block: value for name, (block, value) in parts.items() if name.startswith("delta.")},
        statistics=LocalStatistics(examples=examples, loss_sum=loss_sum, correct=correct),
        held_examples=held,
        scores={block: float(value) for name, (block, value) in parts.items() if name.startswith("score.")},
        cost=TrainingCost(extra_peak_bytes=peak, step_cpu_s=step_cpu_s),
    )
