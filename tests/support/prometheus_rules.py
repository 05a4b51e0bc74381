"""The alert rules that we ship, as Prometheus reads them, and its own tools to judge expressions with."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from coordinator.metrics.catalog import Catalog, series_names

PROMETHEUS = Path(__file__).parents[2] / "deploy" / "prometheus"
OF_PROMETHEUS = frozenset({"up"})
"""What a scrape adds by itself."""

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian package prometheus) is not installed"
)

_NAME = re.compile(r"\b[a-zA-Z_:][a-zA-Z0-9_:]*")
_BESIDE = re.compile(
    r"""\"[^"]*\" | \{[^}]*\} | \[[^\]]*\]            # texts, matchers, ranges
    | \b(?:by|on|ignoring|group_left|without)\s*\([^)]*\)  # lists of labels
    | \b\w+(?=\s*\()                                   # functions
    """,
    re.VERBOSE,
)
_WORDS = frozenset({"and", "or", "unless", "offset", "bool", "by", "on", "ignoring", "group_left", "without"})


@dataclass(frozen=True)
class Rule:
    """A recording rule or an alert."""

    record: str
    alert: str
    expression: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


def read_rules() -> Sequence[Rule]:
    """Read all rule files."""
    return [
        Rule(
            record=rule.get("record", ""),
            alert=rule.get("alert", ""),
            expression=rule["expr"],
            labels=rule.get("labels", {}),
            annotations=rule.get("annotations", {}),
        )
        for path in sorted((PROMETHEUS / "rules").glob("*.yml"))
        for group in read_yaml(path)["groups"]
        for rule in group["rules"]
    ]


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def names_in(expression: str) -> frozenset[str]:
    """Return the metrics that an expression asks for: words that are no function, label, matcher, range or keyword."""
    # Twice: `by (...)` stands between a function's name and its bracket.
    return frozenset(_NAME.findall(_BESIDE.sub(" ", _BESIDE.sub(" ", expression)))) - _WORDS


def known_names(rules: Iterable[Rule]) -> frozenset[str]:
    """Return what an expression may ask for."""
    return series_names(Catalog()) | OF_PROMETHEUS | {rule.record for rule in rules if rule.record}


def run_promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
