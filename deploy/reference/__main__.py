"""Write the page: `python -m deploy.reference`, after every change of a configuration's keys or samples."""

from __future__ import annotations

from pathlib import Path

from deploy.reference.page import write_page

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def main() -> None:
    """Write it whole."""
    PAGE.write_text(write_page(), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
