"""A round of each family through real processes: texts, images, sensor windows, answers of a language model.

Models are pretrained and data are real, except that the sensor model is trained here, and only for a moment.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_fleet import running_fleet

from deploy.examples.__main__ import EXAMPLES
from deploy.examples.engines import lay_out_series
from deploy.examples.layout import MODEL_FOLDER, PLANTS, Example

MOST = {"texts": 200, "images": 60, "series": 4, "answers": 40}
STEPS = {"texts": 12, "images": 8, "series": 20, "answers": 4}
WITHIN_S = 900.0


def lay_out_small(kind: str, folder: Path) -> Example:
    folder.mkdir()
    example = lay_out_series(folder, MOST[kind], epochs=1) if kind == "series" else EXAMPLES[kind](folder, MOST[kind])
    small = {**example.training, "steps": STEPS[kind]}
    return replace(example, rounds=2, training=small, round={"training_deadline_s": WITHIN_S})


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("kind", EXAMPLES)
def test_rounds_make_the_model_better(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "example"
    example = lay_out_small(kind, folder)
    (folder / "job.toml").write_text(example.job_text(), encoding="utf-8")
    with running_fleet(tmp_path) as fleet:
        added = fleet.hq("model", "add", folder / MODEL_FOLDER, "--name", example.name)
        assert added.returncode == 0, added.stderr
        for plant in PLANTS:
            fleet.enrol(plant, example.data_text(plant, folder))
            checked = fleet.agent(plant, "data", "check")
            assert checked.returncode == 0, checked.stderr
            fleet.start(plant)
        submitted = fleet.hq("job", "submit", folder / "job.toml")
        assert submitted.returncode == 0, submitted.stderr
        fleet.await_job("completed", name=example.name, within_s=WITHIN_S)
        job = json.loads(fleet.hq("job", "show", example.name, "--json").stdout)
        for each in job["rounds"]:
            assert each["outcome"] == "committed"
            assert each["completed"] == sorted(PLANTS)
            assert {cohort["survivors"] for cohort in each["cohorts"]} == {len(PLANTS)}
            assert all(site["heads"] == len(each["cohorts"]) for site in each["sites"])
        first, second = (each["loss"] for each in job["rounds"])
        assert second < first
        exported = fleet.hq("export", example.name, "--format", "merged", "--out", tmp_path / "merged")
        assert exported.returncode == 0, exported.stderr
        earlier = fleet.hq("export", example.name, "--round", "1", "--format", "heads", "--out", tmp_path / "earlier")
        assert "after 1 rounds" in earlier.stdout
        written = json.loads((tmp_path / "earlier" / "ravan-lineage.json").read_text())
        assert written["version_digest"] == job["rounds"][0]["state_digest"]
        mean = fleet.hq("export", example.name, "--average", "2", "--format", "heads", "--out", tmp_path / "mean")
        assert mean.returncode == 0, mean.stderr
        assert f"instead of {job['accuracy']:.3f} on" in mean.stdout
        assert json.loads((tmp_path / "mean" / "ravan-lineage.json").read_text())["averaged"] == 2
        cut = fleet.hq("export", example.name, "--rank", "4", "--out", tmp_path / "adapter")
        assert cut.returncode == 0, cut.stderr
        assert "Rank 4 instead of" in cut.stdout
        assert f"instead of {job['accuracy']:.3f} on" in cut.stdout
