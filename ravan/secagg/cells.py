"""Cells of the weighted profile: members that train the same heads and are summed together or not at all.

A weight stands in every bundle of its site, so the difference of two released bundles' weights would be the weight
of whoever is in one of them alone. When cohorts are unions of cells, and each cell has no survivor in a released
bundle or `cell_threshold` of them, every such difference is a sum over that many sites.

Who is with whom follows from the assignment: both sides draw the cells. A coordinator that departs from its program
can still choose the allotments and the run that they follow from. Cells hold within a round: weights summed with a
site in one round and without it in another show its weight.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from ravan.manifest.assignment import Assignment
from ravan.secagg.transcript import Label, data, digest, u64

CELL_ROUNDS: Final = 20
"""Rounds for which the draw stays the same: other cells each round would cut through each other."""

Cell = tuple[int, ...]


def draw_cells(assignment: Assignment) -> tuple[Cell, ...]:
    """Return the cells, members ascending in each; none in the uniform profile.

    Members with the same allotment form a class. Each class is put in an order that identity keys and the period of
    rounds decide, and cut into as many cells as it fills with `cell_minimum` members or more.
    """
    if assignment.weighting is None:
        return ()
    classes: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for index in _drawn_order(assignment):
        classes.setdefault(assignment.members[index].allotment, []).append(index)
    least = assignment.weighting.cell_minimum
    return tuple(cell for _, members in sorted(classes.items()) for cell in _cut(members, least))


def are_whole(assignment: Assignment, cells: Iterable[Cell], members: Collection[int]) -> bool:
    """Tell whether each cell has no one among `members`, or enough to hide in; always so in the uniform profile."""
    return not _thin(assignment, cells, members)


def leave_thin_cells_out(assignment: Assignment, members: Sequence[int]) -> tuple[int, ...]:
    """Return `members` without those whose cell has too few of them: no bundle with their weight could be released."""
    thin = {index for cell in _thin(assignment, draw_cells(assignment), members) for index in cell}
    return tuple(index for index in members if index not in thin)


def _thin(assignment: Assignment, cells: Iterable[Cell], members: Collection[int]) -> list[Cell]:
    if assignment.weighting is None:
        return []
    alive = frozenset(members)
    return [cell for cell in cells if 0 < len(alive.intersection(cell)) < assignment.weighting.cell_threshold]


def _drawn_order(assignment: Assignment) -> list[int]:
    period = u64(assignment.round_number // CELL_ROUNDS)

    def place(index: int) -> bytes:
        return digest(Label.CELL, data(assignment.run_id), period, data(assignment.members[index].identity_key))

    return sorted(range(len(assignment.members)), key=place)


def _cut(members: Sequence[int], least: int) -> list[Cell]:
    count = max(1, len(members) // least)
    edges = [i * len(members) // count for i in range(count + 1)]
    return [tuple(sorted(members[edges[i] : edges[i + 1]])) for i in range(count)]
