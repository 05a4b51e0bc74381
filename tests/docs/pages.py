"""Reading the pages under `docs/`: their tables, and the sections that tests hold to the code."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def read_page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def read_section(page: str, heading: str) -> str:
    """Return what stands below a heading, up to the next one of its level or above."""
    level = len(heading) - len(heading.lstrip("#"))
    _, found, rest = f"\n{page}".partition(f"\n{heading}\n")
    assert found, f"no heading {heading!r}"
    return re.split(rf"\n#{{1,{level}}} ", rest)[0]


def read_rows(text: str) -> list[list[str]]:
    """Return the cells of all table rows whose first cell is code, without the backticks of the first."""
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in text.splitlines()]
    return [[row[0].strip("`"), *row[1:]] for row in rows if row[0].startswith("`") and len(row) > 1]


def read_codes(text: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", text))


def anchors_in(page: Path) -> set[str]:
    """Return what a link to a heading of a page may end with after `#`."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
