"""Sensor windows: turbofan engines that run to failure, with a PatchTST that other engines have trained beforehand.

C-MAPSS FD001 (Saxena et al. 2008, NASA Ames, US public domain). No pretrained transformer for such data can be had, so
the base model is made here: it learns to fill in hidden patches of the first thirty engines, labels unseen.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from deploy.examples.layout import MODEL_FOLDER, PLANTS, Example

if TYPE_CHECKING:
    from transformers import PatchTSTConfig

TABLE: Final = Path(__file__).parents[2] / "lab" / "data" / "cmapss" / "train_FD001.txt"
LABELS: Final = ("healthy", "worn", "failing")
CHANNELS: Final = tuple(f"s{number}" for number in (2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21))
"""Sensors whose values change."""
WINDOW: Final = 32

_COLUMNS: Final = {"label": "health", "group": "engine"}
_FIRST_SENSOR: Final = 5
"""Columns before the sensors: engine, cycle, three settings."""
_WORN, _FAILING = 100, 30
"""Remaining cycles from which on an engine counts as worn, or as failing."""
_BEFOREHAND: Final = range(1, 31)
_ENGINES: Final = {
    "north": range(31, 61),
    "south": range(61, 73),
    "west": range(73, 81),
    "held-out": range(81, 101),
}


def lay_out_series(folder: Path, most: int, *, epochs: int = 8) -> Example:
    """Write the pretrained model and tables of at most `most` engines: each plant's and the held-out one."""
    engines = read_engines()
    write_patchtst(folder / MODEL_FOLDER, [engines[number] for number in _BEFOREHAND], epochs=epochs)
    for place, numbers in _ENGINES.items():
        _write_table(folder / f"{place}.csv", {number: engines[number] for number in numbers[:most]})
    return Example(
        name="engines",
        data={plant: {"path": f"{plant}.csv", "kind": "series", **_COLUMNS} for plant in PLANTS},
        adapter={"heads": 4, "targets": ["attention"]},
        training={"task": "series_classification", "labels": list(LABELS), "window_step": 2, "batch_size": 64},
        evaluation={"data": "held-out.csv", **_COLUMNS},
    )


def read_engines() -> dict[int, NDArray[np.float64]]:
    """Return the channels of each engine, (cycles, channels), by number."""
    columns = (0, *(_FIRST_SENSOR - 1 + int(name[1:]) for name in CHANNELS))
    rows: NDArray[np.float64] = np.loadtxt(TABLE, usecols=columns)
    return {int(number): np.stack(list(each))[:, 1:] for number, each in groupby(rows, key=lambda row: row[0])}


def health(remaining: int) -> str:
    """Return the label of a cycle with so many after it until the engine fails."""
    return LABELS[(remaining <= _WORN) + (remaining <= _FAILING)]


def write_patchtst(folder: Path, engines: Sequence[NDArray[np.float64]], *, epochs: int) -> None:
    """Train a PatchTST to fill in hidden patches; write it with its channels, their means and deviations."""
    import torch  # noqa: PLC0415 - slow to import
    from transformers import PatchTSTForPretraining  # noqa: PLC0415

    everything = np.concatenate(engines)
    mean, deviation = everything.mean(0), everything.std(0)
    windows = _windows([(each - mean) / deviation for each in engines])
    config = patchtst_config(do_mask_input=True, mask_type="random", random_mask_ratio=0.4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PatchTSTForPretraining(config)
        _fill_in(model, torch.from_numpy(windows), epochs)
    model.config.do_mask_input = False
    model.save_pretrained(folder)
    preparation = {"channels": CHANNELS, "mean": mean.tolist(), "std": deviation.tolist()}
    (folder / "preprocessor_config.json").write_text(json.dumps(preparation), encoding="utf-8")


def patchtst_config(**task: Any) -> PatchTSTConfig:
    """Return the model's shape with what a task adds to it."""
    from transformers import PatchTSTConfig  # noqa: PLC0415 - takes seconds to import

    return PatchTSTConfig(
        num_input_channels=len(CHANNELS),
        context_length=WINDOW,
        patch_length=4,
        patch_stride=4,
        d_model=64,
        num_attention_heads=4,
        ffn_dim=128,
        num_hidden_layers=3,
        norm_type="layernorm",
        # Scaling each window by itself would remove the level that carries the wear.
        scaling=None,
        pooling_type="mean",
        **task,
    )


def _fill_in(model: Any, windows: Any, epochs: int) -> None:
    import torch  # noqa: PLC0415 - slow to import

    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for chosen in torch.split(torch.randperm(len(windows)), 64):
            loss = model(past_values=windows[chosen]).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


def _windows(engines: Sequence[NDArray[np.float64]]) -> NDArray[np.float32]:
    cut = [each[start : start + WINDOW] for each in engines for start in range(0, len(each) - WINDOW + 1, 2)]
    return np.stack(cut).astype(np.float32)  # (windows, cycles, channels)


def _write_table(path: Path, engines: dict[int, NDArray[np.float64]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("engine", "cycle", *CHANNELS, "health"))
        for number, values in engines.items():
            for cycle, row in enumerate(values, start=1):
                writer.writerow((number, cycle, *row.tolist(), health(len(values) - cycle)))
