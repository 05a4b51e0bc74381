"""Configuration and job files: TOML into frozen pydantic models, with sentences for whatever is wrong.

A model of a file has one field a table; each table is itself a model. Both use `STRICT`, so that an
unknown key is refused, and the refusal names the nearest key that exists.

Environment: `RAVAN_TABLE_KEY` overrides `[table] key` (`RAVAN_SERVER_SITE_PORT=9443`). Values are
written as in TOML, text without quotes. Only keys that exist are looked up, so that variables which
an orchestrator sets for its own use do no harm; keys of tables with free names cannot be overridden.

pydantic is imported when a file is read and not before: `--help` stays quick.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args, get_origin

from ravan.errors import ConfigError, ErrorReason

if TYPE_CHECKING:
    from pydantic import BaseModel, ConfigDict
    from pydantic_core import ErrorDetails

    FileModel = TypeVar("FileModel", bound=BaseModel)

STRICT: Final[ConfigDict] = {"frozen": True, "extra": "forbid", "allow_inf_nan": False, "defer_build": True}
"""`model_config` of every table: immutable, no unknown keys, only finite numbers; built when a file is first read."""

ENVIRONMENT_PREFIX: Final = "RAVAN"


def load_file(
    model: type[FileModel], path: Path, *, create_with: str, environment: Mapping[str, str] | None = None
) -> FileModel:
    """Read a configuration file into `model`, environment variables winning over the file.

    `create_with` is the command that writes such a file, for the sentence when there is none;
    `environment` is the process's own unless given. Raises ConfigError.
    """
    return read_text(model, _read(path, create_with), source=str(path), environment=environment or os.environ)


def read_text(
    model: type[FileModel], text: str, *, source: str, environment: Mapping[str, str] | None = None
) -> FileModel:
    """Read TOML text into `model`; `source` names it in sentences. No environment is used unless given.

    Raises ConfigError.
    """
    from pydantic import ValidationError  # noqa: PLC0415 - see the module's docstring

    table = _parse(text, source)
    if environment is not None:
        table = _overridden(model, table, environment)
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise _refusal(model, error.errors(include_url=False), source) from error


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the most similar known name, or all of them when none is similar."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean `{close[0]}`?"
    return f"Known here: {', '.join(f'`{each}`' for each in names)}." if names else "Nothing may be set here."


def _read(path: Path, create_with: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise _wrong(f"There is no configuration file {path}.", f"Create it with `{create_with}`.") from error
    except UnicodeDecodeError as error:
        raise _wrong(f"{path} is not UTF-8 text.", "Save it as UTF-8 and try again.") from error
    except OSError as error:
        raise _wrong(
            f"{path} cannot be read: {(error.strerror or str(error)).lower()}.", "Check the path and its permissions."
        ) from error


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _wrong(f"{source} is not valid TOML: {error}.", "Correct that line.") from error
    except (ValueError, RecursionError) as error:
        raise _wrong(
            f"{source} cannot be read: a number has thousands of digits, or brackets are nested too deep.",
            "Correct that line.",
        ) from error


def _overridden(model: type[BaseModel], table: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    merged: dict[str, Any] = dict(table)
    for section, field in model.model_fields.items():
        inner = _model_in(field.annotation)
        present = merged.get(section, {})
        if inner is None or get_origin(field.annotation) is dict or not isinstance(present, dict):
            continue
        changes = {
            key: _environment_value(inner.model_fields[key].annotation, environment[variable])
            for key in inner.model_fields
            if (variable := f"{ENVIRONMENT_PREFIX}_{section}_{key}".upper()) in environment
        }
        if changes:
            merged[section] = {**present, **changes}
    return merged


def _environment_value(annotation: Any, text: str) -> Any:
    if annotation is str or (isinstance(annotation, type) and issubclass(annotation, str | Path)):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # the model's own check then says what it wants


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model that a field holds directly, optionally, or as the values of a table with free names."""
    from pydantic import BaseModel  # noqa: PLC0415 - see the module's docstring

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _model_in(each)) is not None), None)


def _refusal(model: type[BaseModel], problems: list[ErrorDetails], source: str) -> ConfigError:
    # A misspelt key also shows up as a missing one; the spelling is what the reader can see.
    problem = min(problems, key=lambda each: each["type"] != "extra_forbidden")
    sentence, next_step = _describe(model, problem)
    more = f" ({len(problems) - 1} more after it)" if len(problems) > 1 else ""
    return _wrong(f"{source}: {sentence}{more}.", next_step)


def _describe(model: type[BaseModel], problem: ErrorDetails) -> tuple[str, str]:
    path = [str(part) for part in problem["loc"]]
    key = ".".join(path) or "the file"
    if problem["type"] == "extra_forbidden":
        return f"`{key}` is not a known key", nearest_name(path[-1], _names_at(model, path[:-1]))
    if problem["type"] == "missing":
        table = f" to [{'.'.join(path[:-1])}]" if path[1:] else ""
        return f"`{key}` is missing", f"Add `{path[-1]}`{table}."
    if problem["type"] == "value_error":
        return f"`{key}`: {problem['ctx']['error']}".rstrip("."), f"Correct `{key}`."
    wanted = problem["msg"].removeprefix("Input ").replace("valid integer", "whole number")
    wanted = wanted.replace("is not a valid path for <class 'pathlib.Path'>", "should be a path in quotes")
    return f"`{key}` {wanted[:1].lower()}{wanted[1:]}, but is {_shown(problem['input'])}", f"Correct `{key}`."


def _names_at(model: type[BaseModel], path: list[str]) -> Iterable[str]:
    """Return the keys that may stand in the table at this path."""
    current: type[BaseModel] | None = model
    for part in path:
        if current is not None and part in current.model_fields:
            current = _model_in(current.model_fields[part].annotation)
        # otherwise `part` is a free name, and `current` is already the model of its table
    return current.model_fields if current is not None else ()


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # more digits than Python writes
        return "too large"
    return text if len(text) <= 60 else text[:57] + "..."


def _wrong(message: str, next_step: str) -> ConfigError:
    return ConfigError(message, reason=ErrorReason.CONFIG_INVALID, next_step=next_step)
