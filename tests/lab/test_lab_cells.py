"""A cell's key names everything that its outcome depends on; its method says everything that it may be told."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tiny_lab import CELL, cell_of, tiny_task

from lab.federation.partition import Split
from lab.methods.registry import METHODS
from lab.simulation import begin
from lab.study.cell import Cell
from ravan.errors import ConfigError


def other_than(value: Any) -> Any:
    """Return another value of the same kind."""
    if isinstance(value, Enum):
        return next(each for each in type(value) if each != value)
    if isinstance(value, tuple):
        return (*value, ("heads", 3))
    return value + "x" if isinstance(value, str) else value + 1


def changed(value: Any) -> Iterator[Any]:
    """Yield the dataclass with each of its fields changed, inner ones included."""
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        for new in changed(inner) if dataclasses.is_dataclass(inner) else [other_than(inner)]:
            yield dataclasses.replace(value, **{field.name: new})


def test_a_change_of_any_field_is_another_key() -> None:
    others = list(changed(CELL))
    # Eight fields of a cell, of which two hold five and seven.
    assert len(others) == 8 - 2 + 5 + 7
    keys = {CELL.key, *(cell.key for cell in others)}
    assert len(keys) == 1 + len(others)
    assert all(re.fullmatch("[0-9a-f]{16}", key) for key in keys)


def test_equal_cells_have_equal_keys() -> None:
    again = dataclasses.replace(CELL, training=dataclasses.replace(CELL.training))
    assert again is not CELL
    assert again.key == CELL.key
    assert cell_of(heads=2, basis="normal").key == cell_of(basis="normal", heads=2).key


def test_options_that_python_holds_for_equal_are_told_apart() -> None:
    assert len({cell_of(heads=value).key for value in (1, True, 1.0, "1")}) == 4


def test_a_cell_is_cut_or_prolonged_in_its_rounds_alone() -> None:
    longer = CELL.with_rounds(17)
    assert longer.training.rounds == 17
    assert longer.with_rounds(CELL.training.rounds) == CELL


@pytest.mark.parametrize(
    ("split", "words"), [(Split.DIRICHLET, "dirichlet(0.3), 3 of 3, equal"), (Split.NATURAL, "natural, 3 of 3, equal")]
)
def test_a_federation_says_what_it_is(split: Split, words: str) -> None:
    assert str(dataclasses.replace(CELL.federation, split=split)) == words


@pytest.mark.parametrize("name", list(METHODS))
def test_a_method_reads_no_option_that_plans_may_not_set(name: str) -> None:
    """An option that is read but not declared could never be set: every plan with it is refused."""
    read: set[str] = set()
    for kind in METHODS[name].__mro__:
        if kind.__module__.startswith("lab.methods."):
            folder = Path(import_module(kind.__module__).__file__ or "")
            read.update(re.findall(r"\boption\(\s*\"(\w+)\"", folder.read_text(encoding="utf-8")))
    declared = METHODS[name].options
    assert declared <= read
    overridden = {"fed_sb", "head_only", "single_site", "headquarters"}
    assert read == declared or name in overridden


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"basis": "gram"}, "'gram' is not a valid BasisKind"),
        ({"allotment": "top_down"}, "'top_down' is not a valid Allotment"),
        ({"heads": "four"}, "invalid literal"),
        ({"denominator": "all"}, "'all' is not a valid Denominator"),
    ],
)
def test_an_option_with_a_wrong_value_is_refused_before_anything_is_played(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        begin(cell_of(**changes), tiny_task())
    assert refused.value.next_step == "Correct its options."


def test_targets_may_be_named() -> None:
    method = begin(cell_of("fedit", targets="query,key,value"), tiny_task())
    plain: Cell = cell_of("fedit")
    assert len(method.adapter) == 6  # type: ignore[attr-defined]
    assert len(begin(plain, tiny_task()).adapter) == 4  # type: ignore[attr-defined]
