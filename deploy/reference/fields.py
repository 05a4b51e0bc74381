"""Types, bounds and defaults of a table's keys, as an operator writes them in TOML."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

_WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}
_AROUND = {Annotated: "", tuple: "list of ", dict: "table of "}
"""By what stands around a type; of a dictionary its values count."""


def name_type(annotation: Any) -> str:
    """Return what may stand in the file; raise LookupError for a type that this does not know."""
    if annotation in _WORDS:
        return _WORDS[annotation]
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return _alternatives([member.value for member in annotation])
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return _alternatives(arguments)
    if origin in _AROUND:
        return f"{_AROUND[origin]}{name_type(arguments[origin is dict])}"
    if NoneType in arguments:
        return name_type(next(each for each in arguments if each is not NoneType))
    raise LookupError(f"no word for {annotation}")


def name_bounds(field: FieldInfo) -> str:
    """Return what the model checks of a number or of how many there are; empty where it checks nothing."""
    low = high = ""
    for bound in field.metadata:
        match bound:
            case annotated_types.Ge(ge=limit):
                low = f"from {limit}"
            case annotated_types.Gt(gt=limit):
                low = f"above {limit}"
            case annotated_types.Le(le=limit):
                high = f"to {limit}"
            case annotated_types.Lt(lt=limit):
                high = f"below {limit}"
            case annotated_types.MinLen():
                low = "not empty"
            case _:
                continue
    return " ".join(filter(None, (low, high)))


def write_default(field: FieldInfo) -> str:
    """Return the default as it stands in TOML, in Markdown."""
    if field.is_required():
        return "required"
    value = field.default
    if value is None:
        return "none"
    return f"`{json.dumps(list(value) if isinstance(value, tuple) else value, default=str)}`"


def _alternatives(values: Any) -> str:
    return ", ".join(f"`{json.dumps(value)}`" for value in values)
