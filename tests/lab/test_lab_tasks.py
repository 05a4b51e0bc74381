"""What tasks are made of: windows of engines, folders that are made once, layers whose outputs are kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_lab import cell_of, tiny_task

from deploy.examples.engines import LABELS, WINDOW, read_engines
from lab.simulation import begin
from lab.tasks.engines import cut_windows
from lab.tasks.images import read_part
from lab.tasks.kept_layers import KeptLayersTask
from lab.tasks.made_folder import made_once
from ravan.errors import ConfigError, DataError


def test_windows_hold_their_engine_s_cycles_and_the_label_of_the_last_one() -> None:
    engines = read_engines()
    examples, owners = cut_windows(engines, (31, 32))
    expected = [(number, start) for number in (31, 32) for start in range(0, len(engines[number]) - WINDOW + 1, 2)]
    assert owners.tolist() == [number for number, _ in expected]
    for place, (number, start) in enumerate(expected):
        window = engines[number][start : start + WINDOW]
        first = int(examples.starts[place])
        assert examples.values[first : first + WINDOW] == pytest.approx(window, rel=1e-6)
        remaining = len(engines[number]) - start - WINDOW
        label = "healthy" if remaining > 100 else "worn" if remaining > 30 else "failing"
        assert LABELS[examples.label_ids[place]] == label


def test_a_folder_is_made_once_and_not_left_half_made(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "weights").write_text("1")

    def fail(folder: Path) -> None:
        (folder / "weights").write_text("0")
        raise ValueError("no room")

    with pytest.raises(ValueError, match="no room"):
        made_once("model", fail, tmp_path)
    assert list(tmp_path.iterdir()) == []
    folders = {made_once("model", make, tmp_path) for _ in range(3)}
    assert folders == {tmp_path / "model"}
    assert len(made) == 1
    assert (tmp_path / "model" / "weights").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_kept_layers_give_the_same_bits() -> None:
    lab = tiny_task()
    rows = [row for row, length in enumerate(lab.pool.lengths.tolist()) if length == 4][:8]
    layers = (lab.task.model.get_submodule("bert.encoder.layer.0"),)
    kept = KeptLayersTask(lab.task, layers, len(lab.pool), 1 << 20)
    lab.task.model.requires_grad_(False)
    batch = lab.pool.gather(rows, length=8)
    with torch.inference_mode():
        plain = lab.task.logits(batch)
        assert torch.equal(kept.logits(batch), plain)
        assert kept.kept == len(rows) > 1
        asked = list[object]()
        hook = next(layers[0].children()).register_forward_pre_hook(lambda _, inputs: asked.append(inputs))
        assert torch.equal(kept.logits(batch), plain)
        assert not asked
        lab.task.logits(batch)
        assert asked
        hook.remove()


def test_what_is_adapted_is_fixed_where_outputs_of_lower_layers_are_kept() -> None:
    lab = tiny_task()
    layers = (lab.task.model.get_submodule("bert.encoder.layer.0"),)
    kept = replace(lab, task=KeptLayersTask(lab.task, layers, len(lab.pool), 1 << 20))
    assert begin(cell_of("fedit"), kept).bench.targets == lab.targets
    with pytest.raises(ConfigError, match="the targets of tiny are fixed"):
        begin(cell_of("fedit", targets="query"), kept)


def test_missing_images_are_named_with_the_package_that_brings_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no images") as caught:
        read_part(tmp_path, "train")
    assert "apt-get install dataset-fashion-mnist" in caught.value.next_step
