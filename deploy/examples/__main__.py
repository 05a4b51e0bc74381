"""`make example`: lay out a base model, the data of three plants and a job file, for the commands of the README."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from deploy.examples.engines import lay_out_series
from deploy.examples.layout import MODEL_FOLDER, Example
from deploy.examples.orders import lay_out_answers, lay_out_texts
from deploy.examples.textile import lay_out_images

EXAMPLES: Final[Mapping[str, Callable[[Path, int], Example]]] = {
    "texts": lay_out_texts,
    "images": lay_out_images,
    "series": lay_out_series,
    "answers": lay_out_answers,
}
_ALL: Final = 1_000_000


def lay_out(kind: str, folder: Path, most: int = _ALL) -> Example:
    """Write an example with at most `most` rows, images or engines a plant, its job file, and its plants' tables."""
    folder.mkdir(parents=True, exist_ok=True)
    example = EXAMPLES[kind](folder, most)
    (folder / "job.toml").write_text(example.job_text(), encoding="utf-8")
    for plant in example.data:
        (folder / f"{plant}.toml").write_text(example.data_text(plant, folder), encoding="utf-8")
    return example


if __name__ == "__main__":
    chosen, target = sys.argv[1], Path(sys.argv[2])
    if chosen not in EXAMPLES:
        sys.exit(f"There is no example '{chosen}'. There are: {', '.join(EXAMPLES)}.")
    laid_out = lay_out(chosen, target)
    plants = tuple(laid_out.data)
    print(f"{target}/: {MODEL_FOLDER}/, job.toml, and the data of {', '.join(plants)}")
    print(f"  what belongs into each plant's agent.toml: {', '.join(f'{plant}.toml' for plant in plants)}")
    print(f"  next: ravan-coordinator model add {target / MODEL_FOLDER} --name {laid_out.name}")
    print(f"  then: ravan-coordinator job submit {target / 'job.toml'}")
