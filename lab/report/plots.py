"""A report's plots as SVG files: differences to the baseline with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from lab.report.comparison import Row
from lab.study.plan import Plan

_WIDTH: Final = 7.0
_ROW_HEIGHT: Final = 0.32
"""Inches."""


def draw_differences(plan: Plan, rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw one plot a federation: each method's difference to the baseline, in points, best on top."""
    written = []
    for federation in plan.federation:
        mine = [row for row in rows if row.federation == federation.name and row.difference is not None]
        if mine:
            written.append(_draw(plan, federation.name, mine, folder / f"{plan.study.name}-{federation.name}.svg"))
    return written


def _draw(plan: Plan, federation: str, rows: Sequence[Row], path: Path) -> Path:
    compared = [(row.method, row.difference) for row in rows if row.difference is not None]
    ordered = sorted(compared, key=lambda each: each[1].mean)
    figure, axes = _new_figure(_WIDTH, 1.2 + _ROW_HEIGHT * len(ordered))
    for place, (_, difference) in enumerate(ordered):
        colour = "tab:blue" if difference.is_clear else "tab:gray"
        if math.isinf(difference.half_width):
            axes.plot(100 * difference.mean, place, "x", color=colour)
        else:
            axes.errorbar(
                100 * difference.mean, place, xerr=100 * difference.half_width, fmt="o", color=colour, capsize=3
            )
    axes.axvline(0, color="black", linewidth=0.8)
    labels = [name if math.isfinite(found.half_width) else f"{name} (one seed)" for name, found in ordered]
    axes.set_yticks(range(len(ordered)), labels)
    axes.set(title=f"{plan.study.task}, {federation}", xlabel=f"accuracy minus {plan.study.baseline}, points; 95 %")
    axes.grid(axis="x", alpha=0.3)
    return _save(figure, path)


def _new_figure(width: float, height: float) -> tuple[Any, Any]:
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and no run needs it
    from matplotlib.figure import Figure  # noqa: PLC0415

    # Equal outcomes are to give equal files.
    mpl.rcParams["svg.hashsalt"] = "ravan-lab"
    mpl.rcParams["font.size"] = 9
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _save(figure: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    return path
