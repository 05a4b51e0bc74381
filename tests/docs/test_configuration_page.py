"""`docs/configuration.md` is what the generator writes, and that is every key of the models."""

from __future__ import annotations

import re
from typing import Any, get_args

import pytest
from pages import read_page, read_rows, read_section
from pydantic import BaseModel, Field

from coordinator.config import CoordinatorFile
from deploy.reference.comments import read_comments
from deploy.reference.fields import name_bounds, name_type, write_default
from deploy.reference.page import write_page
from edge_agent.config import AgentFile
from ravan.configuration import read_text

PAGE = read_page("configuration.md")
ROW = re.compile(r"`(\w+)`(?:<br>`(\w+)`)?")


def rows_of(heading: str) -> dict[str, list[str]]:
    lines = [line.strip("|").split(" | ") for line in read_section(PAGE, heading).splitlines() if line[:3] == "| `"]
    return {found[1]: cells for cells in lines if (found := ROW.match(cells[0].strip()))}


def test_page_is_what_the_generator_writes() -> None:
    assert write_page() == PAGE, "run `python -m deploy.reference`"


@pytest.mark.parametrize(("name", "model"), [("coordinator.toml", CoordinatorFile), ("agent.toml", AgentFile)])
def test_every_table_of_a_file_has_its_keys(name: str, model: type[BaseModel]) -> None:
    for table, field in model.model_fields.items():
        heading = f"### `{name}`: `[{table}{'.NAME' if table == 'data' else ''}]`"
        inner: Any = get_args(field.annotation)[1] if table == "data" else field.annotation
        assert set(rows_of(heading)) == set(inner.model_fields)


def test_rows_say_what_the_loader_does() -> None:
    row = rows_of("### `coordinator.toml`: `[fleet]`")["silence_s"]
    assert [cell.strip() for cell in row[1:4]] == ["number", "`15`", "above 0 to 86400"]
    variable = ROW.match(row[0].strip())
    assert variable is not None
    read = read_text(CoordinatorFile, '[server]\nhosts = ["hq"]', source="test", environment={variable[2]: "77"})
    assert read.fleet.silence_s == 77


def test_a_comment_serves_all_keys_below_it() -> None:
    comments = read_comments("# Of the file.\n\n[one]\n# For both\n# of them.\n# a = 1\nb = 2\n# Alone.\n# c = 3\n")
    assert [(each.text, each.keys) for each in comments["one"].keys] == [
        ("For both of them.", ("a", "b")),
        ("Alone.", ("c",)),
    ]
    assert comments["one"].text == ""


def test_a_comment_above_a_table_is_the_tables() -> None:
    comments = read_comments("[one]\n# x\na = 1\n\n# What it is.\n# [two.NAME]\n# y\n# b = 1\n")
    assert comments["two"].text == "What it is."


def test_a_key_that_nothing_is_said_of_is_refused() -> None:
    with pytest.raises(ValueError, match="`a`"):
        read_comments("[one]\na = 1\n")


def test_types_bounds_and_defaults_are_told_in_words() -> None:
    class Table(BaseModel):
        ports: tuple[int, ...] = (1,)
        share: float | None = Field(default=None, gt=0, lt=1)
        name: str = Field(min_length=1)

    fields = Table.model_fields
    assert [name_type(field.annotation) for field in fields.values()] == ["list of whole number", "number", "text"]
    assert [name_bounds(field) for field in fields.values()] == ["", "above 0 below 1", "not empty"]
    assert [write_default(field) for field in fields.values()] == ["`[1]`", "none", "required"]


def test_a_type_without_a_word_is_refused() -> None:
    with pytest.raises(LookupError, match="complex"):
        name_type(complex)


def test_the_job_files_page_is_named() -> None:
    assert "](job-file.md)" in PAGE
    assert read_rows(read_section(PAGE, "## `agent.toml`"))
