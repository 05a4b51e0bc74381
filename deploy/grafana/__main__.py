"""Write the dashboards: `python -m deploy.grafana`, after every change of `boards.py`."""

from __future__ import annotations

from pathlib import Path

from deploy.grafana.boards import BOARDS
from deploy.grafana.drawing import draw

FOLDER = Path(__file__).parent / "dashboards"


def main() -> None:
    """Write one file for each."""
    FOLDER.mkdir(exist_ok=True)
    for board in BOARDS:
        path = FOLDER / f"{board.uid}.json"
        path.write_text(draw(board), encoding="utf-8")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
