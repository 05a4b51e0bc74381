"""Groups of a large round: finishers beyond 128 mask in several groups, whose sums are added exactly.

All members of a group mask with each other and hold shares of each other's secrets, which costs the square of
their number. Every rule (Shamir threshold, least cohort, release) holds within each group by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ravan.manifest.assignment import MAX_GROUP, Assignment
from ravan.secagg.cells import draw_cells


def form_groups(assignment: Assignment, finishers: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Divide the finishers (ascending) into groups of at most 128, members ascending in each.

    Sites with the same allotment stay together as far as possible: their heads then have large cohorts. A group never
    ends with so few of a class that the heads of that class alone could not be released; cells are never divided.
    """
    if len(finishers) <= MAX_GROUP:
        return (tuple(finishers),)
    ordered, starts = _order(assignment, finishers)
    room = MAX_GROUP - max(b - a for a, b in pairwise([*starts, len(ordered)])) + 1
    room -= 0 if assignment.weighting else assignment.bundle_threshold
    count = -(-len(ordered) // room)
    edges = [0, *(_edge(assignment, ordered, starts, i * len(ordered) // count) for i in range(1, count)), len(ordered)]
    return tuple(tuple(sorted(ordered[a:b])) for a, b in pairwise(edges) if a < b)


def _order(assignment: Assignment, finishers: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the finishers by class, and where a group may begin."""
    present = frozenset(finishers)
    units = [
        unit
        for cell in draw_cells(assignment) or ((index,) for index in finishers)
        if (unit := sorted(present.intersection(cell)))
    ]
    units.sort(key=lambda unit: (assignment.members[unit[0]].allotment, unit))
    ordered = [index for unit in units for index in unit]
    starts, position = [], 0
    for unit in units:
        starts.append(position)
        position += len(unit)
    return ordered, starts


def _edge(assignment: Assignment, ordered: Sequence[int], starts: Sequence[int], wished: int) -> int:
    """Return where the next group begins: at `wished` or, to keep units and slivers of a class together, before it."""
    edge = max(start for start in starts if start <= wished)
    allotment = assignment.members[ordered[edge]].allotment
    began = next(start for start in starts if assignment.members[ordered[start]].allotment == allotment)
    return began if assignment.weighting is None and edge - began < assignment.bundle_threshold else edge
