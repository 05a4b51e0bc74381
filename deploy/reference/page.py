"""Lay out the page: a section for each file, a table for each of its tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel

from coordinator.config import SAMPLE as COORDINATOR_SAMPLE
from coordinator.config import CoordinatorFile
from deploy.reference.comments import KeyComment, read_comments
from deploy.reference.fields import name_bounds, name_type, write_default
from edge_agent.config import SAMPLE as AGENT_SAMPLE
from edge_agent.config import AgentFile
from ravan.configuration import ENVIRONMENT_PREFIX

_OPENING: Final = """\
# Configuration

Every key of the two configuration files, written by `python -m deploy.reference` from the models that read them and
from the samples that the programs write. Keys of a job are in [the job file](job-file.md).

- A file is TOML. `ravan-coordinator init` and `ravan-agent enroll` write one that has every key with its default,
  commented out: [coordinator.toml](../deploy/samples/coordinator.toml), [agent.toml](../deploy/samples/agent.toml).
- An unknown key is refused, and the sentence names the nearest one that there is.
- An environment variable wins over the file. Its value is written as in TOML, text without quotes:
  `RAVAN_SERVER_SITE_PORT=9443`, `RAVAN_AGENT_COORDINATORS='["HOST"]'`.
- A relative path is meant from the folder that the file is in.
- A change counts from the next start. `ravan-coordinator config check` and `ravan-agent config check` read the file and
  say what is wrong with it.
- Defaults are written as in TOML; `none` is a key that is left out. Bounds are of the value; empty: none are checked.
"""


def write_page() -> str:
    """Return `docs/configuration.md`."""
    files = (
        ("`coordinator.toml`", CoordinatorFile, COORDINATOR_SAMPLE),
        ("`agent.toml`", AgentFile, AGENT_SAMPLE),
    )
    return "\n".join([_OPENING, *(line for name, model, sample in files for line in _lay_out(name, model, sample))])


def _lay_out(name: str, model: type[BaseModel], sample: str) -> Iterator[str]:
    yield f"## {name}\n"
    comments = read_comments(sample)
    for table, field in model.model_fields.items():
        inner, free = _model_of(field.annotation)
        yield f"### {name}: `[{table}{'.NAME' if free else ''}]`\n"
        yield f"{inner.__doc__}\n"
        if free:
            yield f"{comments[table].text} No environment variable sets keys of a table with a free name.\n".lstrip()
        rows = [row for comment in comments[table].keys for row in _rows(inner, "" if free else table, comment)]
        yield "\n".join(["| key | type | default | bounds | meaning |", "|---|---|---|---|---|", *rows]) + "\n"


def _rows(model: type[BaseModel], table: str, comment: KeyComment) -> Iterator[str]:
    first, *_ = comment.keys
    for key in comment.keys:
        field = model.model_fields[key]
        variable = f"<br>`{f'{ENVIRONMENT_PREFIX}_{table}_{key}'.upper()}`" if table else ""
        meaning = comment.text if key == first else f"With `{first}`."
        told = (name_type(field.annotation), write_default(field), name_bounds(field), meaning)
        cells = " | ".join(cell.replace("|", r"\|") for cell in told)
        yield f"| `{key}`{variable} | {cells} |"


def _model_of(annotation: Any) -> tuple[type[BaseModel], bool]:
    """Return the model of a table, and whether its name is free."""
    free = get_origin(annotation) is dict
    model = get_args(annotation)[1] if free else annotation
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise LookupError(f"{annotation} is no table")
    return model, free
