"""What every example lays out, and the file that describes its job."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PLANTS: Final = ("north", "south", "west")
MODEL_FOLDER: Final = "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A job that was laid out in a folder: the model in `model/`, each plant's data, `job.toml`."""

    name: str
    """Of model, data and job."""
    data: Mapping[str, Mapping[str, object]]
    """By plant: the keys of its `[data.NAME]` table; paths are relative to the example's folder."""
    adapter: Mapping[str, object]
    training: Mapping[str, object]
    evaluation: Mapping[str, object]
    rounds: int = 4
    round: Mapping[str, object] = field(default_factory=dict)

    def job_text(self) -> str:
        """Return the job file."""
        tables: Mapping[str, Mapping[str, object]] = {
            "job": {"name": self.name, "rounds": self.rounds},
            "model": {"name": self.name},
            "adapter": self.adapter,
            "training": {"data": self.name, **self.training},
            "round": self.round,
            "secure_aggregation": {"bundle_threshold": len(PLANTS)},
            "evaluation": self.evaluation,
        }
        return "\n".join(write_table(table, keys) for table, keys in tables.items())

    def data_text(self, plant: str, folder: Path) -> str:
        """Return what belongs into a plant's `agent.toml` for the files that lie in `folder`."""
        keys = self.data[plant]
        return write_table(f"data.{self.name}", {**keys, "path": str(folder.resolve() / str(keys["path"]))})


def write_table(name: str, keys: Mapping[str, object]) -> str:
    """Return a table of a TOML file; texts, numbers and lists of them are written alike in JSON."""
    return "".join([f"[{name}]\n", *(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())])
