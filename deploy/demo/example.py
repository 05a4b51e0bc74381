"""`make example`: lay out a base model and the files of three plants, for the commands of the README."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from deploy.demo.work_orders import installed_model, prepare_files

PLANTS: Final = {"north": "b", "south": "c", "west": "e"}


def lay_out(folder: Path) -> None:
    """Write `model/`, one CSV per plant and `held-out.csv`."""
    (folder / "model").mkdir(parents=True, exist_ok=True)
    for file in installed_model().iterdir():
        if file.is_file():
            shutil.copyfile(file, folder / "model" / file.name)
    with tempfile.TemporaryDirectory() as scratch:
        prepare_files(Path(scratch))
        for plant, site in PLANTS.items():
            shutil.copyfile(Path(scratch) / f"site-{site}.csv", folder / f"{plant}.csv")
        shutil.copyfile(Path(scratch) / "held-out.csv", folder / "held-out.csv")


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "example")
    lay_out(target)
    print(f"{target}/: model, {', '.join(f'{plant}.csv' for plant in PLANTS)}, held-out.csv")
