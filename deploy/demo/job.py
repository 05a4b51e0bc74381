"""The demo's job files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from coordinator.jobs.jobfile import ExpectedLabels
from deploy.demo.work_orders import LABELS
from ravan.manifest.plan import BasisKind, Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """What one run of the demo trains."""

    name: str
    rounds: int
    heads: int
    steps: int = 25
    batch_size: int = 32
    learning_rate: float = 5e-3
    dense_learning_rate: float = 2e-2
    learning_rate_decay: float = 0.95
    lora_rank: int = 8
    expected_labels: ExpectedLabels = ExpectedLabels.HELD_OUT
    basis: BasisKind = BasisKind.ALIGNED
    minimum_sites: int = 4
    precision: Precision = Precision.FLOAT32
    share: float = 1.0
    """Part of the heads that fit which a site trains."""


def write_job(settings: JobSettings, held_out: Path, path: Path) -> Path:
    """Write the job file and return its path."""
    path.write_text(
        f"""\
[job]
name = "{settings.name}"
rounds = {settings.rounds}

[model]
name = "minilm"
precision = "{settings.precision}"

[adapter]
heads = {settings.heads}
lora_rank = {settings.lora_rank}
targets = ["query", "value"]
basis = "{settings.basis}"

[training]
data = "work-orders"
labels = {json.dumps(LABELS)}
max_length = 32
batch_size = {settings.batch_size}
steps = {settings.steps}
learning_rate = {settings.learning_rate}
dense_learning_rate = {settings.dense_learning_rate}
learning_rate_decay = {settings.learning_rate_decay}
expected_labels = "{settings.expected_labels}"

[round]
minimum_sites = {settings.minimum_sites}
training_deadline_s = 300

[secure_aggregation]
bundle_threshold = 3

[allocation]
share = {settings.share}

[evaluation]
data = "{held_out}"
text = "text"
label = "subsystem"
""",
        encoding="utf-8",
    )
    return path
