"""`docs/job-file.md` has every key of a job file with its default, and no other."""

from __future__ import annotations

import json
import re

import pytest
from pages import read_page, read_rows, read_section
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from coordinator.jobs.jobfile import JobFile, read_job_file
from coordinator.jobs.task_defaults import TASK_DEFAULTS
from ravan.adapters.targets import FAMILIES_WITH_ROLES

PAGE = read_page("job-file.md")
TABLES = re.findall(r"^## `\[(\w+)\]`", PAGE, re.MULTILINE)


def table_model(name: str) -> type[BaseModel]:
    annotation = JobFile.model_fields[name].annotation
    assert isinstance(annotation, type)
    assert issubclass(annotation, BaseModel)
    return annotation


def written_default(value: object) -> str:
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "none"
    return f"`{json.dumps(value)}`"


def rows_of(table: str) -> list[list[str]]:
    heading = next(line for line in PAGE.splitlines() if line.startswith(f"## `[{table}]`"))
    return read_rows(read_section(PAGE, heading))


def test_page_has_a_section_for_each_table() -> None:
    assert list(JobFile.model_fields) == TABLES


@pytest.mark.parametrize("table", TABLES)
def test_section_lists_every_key_with_its_default(table: str) -> None:
    fields = table_model(table).model_fields
    assert {row[0]: row[1] for row in rows_of(table)} == {
        key: written_default(field.default) for key, field in fields.items()
    }


@pytest.mark.parametrize("table", TABLES)
def test_each_key_has_a_meaning(table: str) -> None:
    assert all(len(row) == 3 and row[2].endswith(".") for row in rows_of(table))


def test_smallest_job_of_the_page_is_accepted_and_has_only_what_is_required() -> None:
    text = PAGE.partition("```toml\n")[2].partition("```")[0]
    job = read_job_file(text, source="page")
    for table in job.model_fields_set:
        model = table_model(table)
        required = {key for key, field in model.model_fields.items() if field.is_required()}
        # Which keys a task needs beside these, the page says of each task; classes have labels.
        wanted = required | {"labels"} if table == "training" else required
        assert getattr(job, table).model_fields_set == wanted


def test_page_has_the_defaults_of_every_task() -> None:
    rows = read_rows(read_section(PAGE, "## Defaults by task"))
    assert {row[0]: (float(row[1]), float(row[2]), row[3]) for row in rows} == {
        f'"{task}"': (usual.learning_rate, usual.dense_learning_rate, f'`"{usual.basis}"`')
        for task, usual in TASK_DEFAULTS.items()
    }


def test_page_lists_the_model_types_whose_layers_have_roles() -> None:
    listed = PAGE.partition("Roles are known for:")[2].partition("Layers of any")[0]
    assert set(re.findall(r"`([^`]+)`", listed)) == FAMILIES_WITH_ROLES
