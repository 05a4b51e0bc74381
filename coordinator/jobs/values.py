"""The kinds of values that keys of a job file take, each with the sentence that refuses a wrong one."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, PlainValidator, StringConstraints

from ravan.codec import fields
from ravan.data.source import LINES, TableFormat
from ravan.errors import ProtocolError
from ravan.manifest.plan import TEXT_SLOT

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")


def _checked_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("must be 1 to 63 lower-case letters, digits, dots, hyphens or underscores")
    return value


def _checked_text(value: str) -> str:
    try:
        return fields.text(value, "text")
    except ProtocolError:
        raise ValueError(f"must have at most {fields.TEXT_LIMIT} characters and no control characters") from None


def _checked_labels(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(value) == 1 or len(set(value)) < len(value) or any(label != label.strip() or not label for label in value):
        raise ValueError("must be two or more different names without blanks at their ends")
    return value


def _checked_prompt(value: str) -> str:
    try:
        fields.text(value, "prompt", empty=True, lines=True)
    except ProtocolError:
        raise ValueError(f"must have at most {fields.TEXT_LIMIT} characters and no control characters") from None
    if value and value.count(TEXT_SLOT) != 1:
        raise ValueError(f"must have {TEXT_SLOT} in it once, where the example's text goes")
    return value


def _checked_targets(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value or not all(value):
        raise ValueError('must name at least one kind of layer, such as ["query", "value"]')
    return value


def _checked_rank(value: Any) -> Any:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError('must be "auto" or a whole number from 1')


def _checked_deadline(value: Any) -> Any:
    if value == "auto":
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(value)
    raise ValueError('must be "auto" or a number of seconds above 0')


def _checked_format(value: TableFormat) -> TableFormat:
    if value not in LINES:
        raise ValueError(f"held-out data are a file of {' or '.join(sorted(LINES))}; write the table as one")
    return value


def _checked_seed(value: str) -> str:
    if value and not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError("must be 64 hexadecimal digits in lower case, or be left out")
    return value


Name = Annotated[str, AfterValidator(_checked_name)]
Text = Annotated[str, StringConstraints(min_length=1), AfterValidator(_checked_text)]
Count = Annotated[int, Field(strict=True, ge=1, le=(1 << 31) - 1)]
Seconds = Annotated[float, Field(strict=True, gt=0)]
Deadline = Annotated[float | Literal["auto"], PlainValidator(_checked_deadline)]
Positive = Annotated[float, Field(strict=True, gt=0)]
NotNegative = Annotated[float, Field(strict=True, ge=0)]
Share = Annotated[float, Field(strict=True, gt=0, le=1)]
Labels = Annotated[tuple[Text, ...], AfterValidator(_checked_labels)]
Prompt = Annotated[str, AfterValidator(_checked_prompt)]
Targets = Annotated[tuple[Text, ...], AfterValidator(_checked_targets)]
Rank = Annotated[int | Literal["auto"], PlainValidator(_checked_rank)]
Seed = Annotated[str, AfterValidator(_checked_seed)]
HeldOutFormat = Annotated[TableFormat, AfterValidator(_checked_format)]
