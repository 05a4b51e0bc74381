"""The laboratory uses the product; nothing uses the laboratory. Import contracts say it of the product's packages."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = frozenset(path.parent.name for path in ROOT.glob("*/__init__.py"))


def packages_imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            yield node.module.partition(".")[0]


def imported_by(package: str) -> set[str]:
    """Return the repository's packages that some module of this one imports, itself left out."""
    modules = sorted((ROOT / package).rglob("*.py"))
    assert modules
    return {name for path in modules for name in packages_imported(path)} & PACKAGES - {package}


def test_it_uses_the_products_packages_and_the_examples_beside_them() -> None:
    assert {"ravan", "coordinator", "edge_agent", "deploy"} == imported_by("lab")


def test_nothing_uses_it() -> None:
    assert {"lab", "ravan", "coordinator", "edge_agent", "deploy", "simulation", "benchmarks", "fuzz"} <= PACKAGES
    assert {package for package in PACKAGES - {"lab"} if "lab" in imported_by(package)} == set()
