"""The examples that this site has under a name, read for a job."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_agent.config import AgentFile, DataTable
from edge_agent.passwords import read_password
from ravan.data.contents import SplitExamples, split_examples
from ravan.data.examples import KIND_OF_TASK, Examples, read_examples
from ravan.data.source import DataSource, unreadable
from ravan.data.stamp import Stamp, read_stamp
from ravan.errors import ConfigError, DataError, ErrorReason
from ravan.manifest.plan import TrainingSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteExamples:
    """What a job learns from at this site."""

    examples: Examples
    stamp: Stamp
    """Of the source, from before it was read."""
    duplicates: int
    """Examples that were there already."""
    kept_back: int
    """Examples for validation, which are not among `examples`."""


def read_site_data(config: AgentFile, training: TrainingSettings) -> SiteExamples:
    """Read what a job asks for, with the site's own column names; raise DataError for whatever is wrong with it.

    Blocks on the disk or a database.
    """
    found, stamp = read_both_sides(config, training)
    return SiteExamples(
        examples=found.training, stamp=stamp, duplicates=found.duplicates, kept_back=len(found.validation)
    )


def read_both_sides(config: AgentFile, training: TrainingSettings) -> tuple[SplitExamples[Examples], Stamp]:
    """Read what a job learns from and what is kept from learning, with the stamp from before; raise DataError.

    Blocks on the disk or a database.
    """
    name = training.data
    table = config.data_table(name)
    _check_kind(name, table, training)
    source = source_of(name, table)
    stamp = read_stamp(source)
    found = split_examples(read_examples(source, training), table.duplicates, table.validation_share)
    check_number(name, len(found.training), config.policy.minimum_examples)
    return found, stamp


def has_changed(config: AgentFile, training: TrainingSettings, stamp: Stamp) -> bool:
    """Return whether what a job asks for is other than it was; raise DataError. Blocks on the disk or a database."""
    return read_stamp(source_of(training.data, config.data_table(training.data))) != stamp


def check_number(name: str, found: int, minimum: int) -> None:
    """Raise DataError DATA_TOO_FEW unless there are enough examples."""
    if found < minimum:
        raise DataError(
            f"[data.{name}] has {found} examples to learn from; this site takes part with {minimum} or more.",
            reason=ErrorReason.DATA_TOO_FEW,
            next_step="Wait until there are more, or lower [policy] minimum_examples in agent.toml.",
        )


def source_of(name: str, table: DataTable) -> DataSource:
    """Return where a table's examples lie, with the password that is valid now; raise DataError DATA_UNREADABLE."""
    return DataSource(
        path=table.path or Path(),
        name=f"[data.{name}] {table.path or table.url}",
        format=table.format,
        text=table.text,
        label=table.label,
        group=table.group,
        columns=table.columns,
        encoding=table.encoding,
        separator=table.separator,
        decimal=table.decimal,
        query=table.query,
        url=table.url,
        password=_password(name, table),
        labels=table.labels,
        file=table.file,
    )


def _check_kind(name: str, table: DataTable, training: TrainingSettings) -> None:
    wanted = KIND_OF_TASK[training.task]
    if table.kind is not wanted:
        raise DataError(
            f"The job learns from {wanted}, but [data.{name}] holds {table.kind}.",
            reason=ErrorReason.DATA_MISSING,
            next_step=f'Set kind = "{wanted}" if that is what lies there, or ask HQ which name the job should use.',
        )


def _password(name: str, table: DataTable) -> str:
    try:
        return read_password(f"[data.{name}] password", table.password_file, table.password_variable)
    except ConfigError as error:
        raise unreadable(str(error), error.next_step) from None
