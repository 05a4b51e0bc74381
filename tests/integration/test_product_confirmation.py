"""`python -m lab confirm`: a real coordinator and five real agents play a study's run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PLAN = """
[study]
name = "tiny-natural"
task = "work_orders"
seeds = [1]
baseline = "ravan"

[training]
rounds = 2
steps = 1
batch_size = 4
average_last = 2

[[federation]]
name = "natural"
split = "natural"
clients = 5
per_round = 5

[[method]]
name = "ravan"
kind = "ravan"
learning_rate = 0.01
options = { threshold = 3, expected_labels = "held_out", basis = "aligned" }
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_product_plays_a_run_of_a_study_and_says_where_it_lands(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN, encoding="utf-8")
    command = [sys.executable, "-m", "lab", "confirm", str(plan), "--out", str(tmp_path / "out"), "--runs", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = (tmp_path / "out" / "tiny-natural" / "product.jsonl").read_text(encoding="utf-8").splitlines()
    accuracies = json.loads(line)["accuracies"]
    assert len(accuracies) == 2
    assert all(0 < each < 1 for each in accuracies)
    (said,) = re.findall(r"product    ([0-9.]+) %, sd 0.00, 1 runs", done.stdout)
    assert float(said) == pytest.approx(50 * sum(accuracies), abs=0.006)
    assert "simulator  no runs" in done.stdout
    assert "round 2/2 committed, 5 sites" in done.stdout
