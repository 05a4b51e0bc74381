"""From a command to a model and to what it is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from edge_agent.config import AgentFile, DataTable
from edge_agent.data.site_data import source_of
from edge_agent.hardware.probe import training_threads
from edge_agent.serving.kept import KeptModel
from edge_agent.serving.own_heads import PERSONAL_FOLDER, OwnHeads
from edge_agent.serving.predictor import Predictor
from edge_agent.serving.shelf import MODELS_FOLDER, ModelShelf
from ravan.data.source import QUERIES, DataSource, TableFormat
from ravan.manifest.plan import TrainingSettings
from ravan.offline import stay_offline

_BY_SUFFIX: Final = {
    ".csv": TableFormat.CSV,
    ".jsonl": TableFormat.JSONL,
    ".ndjson": TableFormat.JSONL,
    ".parquet": TableFormat.PARQUET,
}


def shelf_of(config: AgentFile) -> ModelShelf:
    """Return where this PC keeps its models."""
    return ModelShelf(config.agent.state_dir / MODELS_FOLDER)


def open_predictor(config: AgentFile, kept: KeptModel) -> Predictor:
    """Load a kept model; raise ModelError or TransferError."""
    from edge_agent.serving.base_files import find_base_files  # noqa: PLC0415 - imports torch

    prepare_process(config)
    return Predictor(kept, find_base_files(kept.plan, config.agent.cache_dir))


def prepare_process(config: AgentFile) -> None:
    """Have this process reach no hub, and compute on as many threads as training gets."""
    stay_offline()
    import torch  # noqa: PLC0415 - slow to import

    torch.set_num_threads(training_threads(config.agent.threads))


def own_heads_of(config: AgentFile) -> OwnHeads:
    """Return where this PC keeps heads of its own."""
    return OwnHeads(config.agent.state_dir / PERSONAL_FOLDER)


def source_at(path: Path, config: AgentFile, training: TrainingSettings, wanted: TableFormat | None) -> DataSource:
    """Return a file or folder as a source, whose columns are called as in the data that the job learnt from."""
    table = config.data.get(training.data, DataTable(path=path))
    usual = TableFormat.CSV if table.format in QUERIES else table.format
    return DataSource(
        path=path,
        name=str(path),
        format=wanted or _BY_SUFFIX.get(path.suffix.lower(), usual),
        text=table.text,
        label="",
        group=table.group,
        columns=table.columns,
        encoding=table.encoding,
        separator=table.separator,
        decimal=table.decimal,
    )


def own_source(config: AgentFile, name: str) -> DataSource:
    """Return one of the site's own tables as a source without labels; raise DataError."""
    return replace(source_of(name, config.data_table(name)), label="", labels="")
