"""An exported adapter is scored as the version that it was made from, and as less when its rank is cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_jobs import TinyJob, tiny_job, write_rows

from coordinator.evaluation.adapters import evaluate_adapter
from coordinator.evaluation.findings import Evaluation
from coordinator.evaluation.worker import evaluate_state
from ravan.adapters.export import export_peft
from ravan.adapters.state import block_shapes, encode_state
from ravan.data.source import DataSource
from ravan.ids import BlockKind


class Scores:
    def __init__(self, root: Path) -> None:
        self.job: TinyJob = tiny_job(root, heads=2, rank=3)
        self.root = root
        self.held_out = DataSource(path=write_rows(root / "held-out.csv"), name="held-out.csv")
        generator = np.random.default_rng(3)
        self.state = {
            block: generator.normal(0, 8.0 if block.kind is BlockKind.HEAD else 1.0, shape).astype(np.float32)
            for block, shape in block_shapes(self.job.plan).items()
        }

    def of_version(self) -> Evaluation:
        return evaluate_state(self.job.folder, self.job.plan, encode_state(self.job.plan, self.state), self.held_out)

    def of_adapter(self, rank: int | None) -> Evaluation:
        folder = self.root / f"rank-{rank}"
        export_peft(self.job.plan, self.state, folder, "tiny", rank=rank)
        return evaluate_adapter(self.job.folder, self.job.plan, folder, self.held_out)


@pytest.mark.parametrize("rank", [None, 6, 60])
def test_an_uncut_adapter_scores_like_its_version(tmp_path: Path, rank: int | None) -> None:
    scores = Scores(tmp_path)
    version, adapter = scores.of_version(), scores.of_adapter(rank)
    assert (adapter.accuracy, adapter.examples) == (version.accuracy, version.examples)
    assert adapter.loss == pytest.approx(version.loss, rel=1e-5)


def test_a_cut_adapter_scores_as_itself(tmp_path: Path) -> None:
    scores = Scores(tmp_path)
    version, cut = scores.of_version(), scores.of_adapter(1)
    assert abs(cut.loss - version.loss) > 1e-3 * version.loss
