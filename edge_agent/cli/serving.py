"""`predict`, `serve-model` and `model`: what the plant has of the models that it helps to train."""

# ruff: noqa: PLC0415 - commands import what they need when they run

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

import click

from edge_agent.cli.options import config_option, json_option, read_config
from ravan.console import print_json
from ravan.errors import ConfigError, ErrorReason

if TYPE_CHECKING:
    from edge_agent.config import AgentFile
    from ravan.data.unlabelled import Questions
    from ravan.manifest.plan import TrainingSettings

DEFAULT_PORT: Final = 9467
"""Of `serve-model`."""

_FILE_FORMATS: Final = ("csv", "jsonl", "parquet")


@click.command()
@click.argument("job")
@click.argument("what", metavar="[INPUT]", required=False)
@config_option
@click.option("--data", "data_name", metavar="NAME", help="Ask about the rows of [data.NAME], in place of INPUT.")
@click.option("--format", "file_format", type=click.Choice(_FILE_FORMATS), help="Of INPUT; default: as its name ends.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write to, in place of the screen."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, in place of CSV.")
@click.option("--personal", is_flag=True, help="By this PC's own heads, from `ravan-agent personalise`.")
def predict(
    job: str,
    what: str | None,
    config_path: Path,
    data_name: str | None,
    file_format: str | None,
    out: Path | None,
    as_json: bool,
    personal: bool,
) -> None:
    """Tell labels with probabilities, or answers, by the model that this PC keeps of JOB. Needs no network.

    INPUT is a file or folder like the data that the job learns from, without labels; `-` reads standard input and
    answers each line at once: a text, an image's path, or sensor values as a JSON object.
    """
    from edge_agent.serving.asking import open_predictor, own_heads_of, shelf_of
    from edge_agent.serving.output import csv_lines, json_lines

    if (what is None) == (data_name is None):
        raise ConfigError(
            "Say what to ask about: either INPUT or --data NAME.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="`ravan-agent predict --help` shows both.",
        )
    config = read_config(config_path)
    kept = shelf_of(config).find(job)
    own = own_heads_of(config).find(kept) if personal else None
    predictor = open_predictor(config, kept)
    if own is not None:
        predictor.put(own)
    # As the loaded model completed them: a job may leave a size to its model.
    training = predictor.task.training
    with _opened(out) as file:
        write = json_lines(file) if as_json else csv_lines(file, _told_apart(training))
        for questions in _questions(config, training, what, data_name, file_format):
            for prediction in predictor.answer(questions):
                write(prediction)


@click.command("serve-model")
@click.argument("job")
@config_option
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="0: any free one.")
@click.option("--personal", is_flag=True, help="By this PC's own heads, from `ravan-agent personalise`.")
def serve_model(job: str, config_path: Path, port: int, personal: bool) -> None:
    """Answer other programs on this PC by the model that it keeps of JOB, over HTTP on 127.0.0.1. Needs no network.

    POST /predict takes {"texts": [...]}, {"images": [...]} in base64 or {"windows": [...]} as JSON. GET /model says
    which version answers, GET /healthz that the server lives. A newer version is taken up as soon as it is kept; with
    --personal once there are own heads on top of it.
    """
    import signal

    from edge_agent.serving.asking import open_predictor, own_heads_of, shelf_of
    from edge_agent.serving.local_server import LOOPBACK, build_local_server
    from edge_agent.serving.service import ModelService
    from ravan.logs import set_up_logs

    config = read_config(config_path)
    set_up_logs(config.log)
    own = own_heads_of(config) if personal else None
    service = ModelService(job, shelf_of(config), lambda kept: open_predictor(config, kept), own)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with build_local_server(service, port) as server:
        click.echo(f"Answers at http://{LOOPBACK}:{server.server_address[1]}/predict by the model of {job}.")
        server.serve_forever()


@click.command()
@click.argument("job")
@config_option
@click.option("--steps", type=click.IntRange(min=0), default=0, help="Training steps; default: three passes.")
@click.option("--classifier-alone", is_flag=True, help="Leave the heads as they are.")
@json_option
def personalise(job: str, config_path: Path, steps: int, classifier_alone: bool, as_json: bool) -> None:
    """Train heads of this PC's own on its own data, on top of the model of JOB. They never leave the PC.

    They are kept where they are better on the rows that `validation_share` keeps from learning.
    """
    from edge_agent.personal.telling import describe_outcome, outcome_facts
    from edge_agent.personal.training import train_own_heads
    from edge_agent.serving.asking import own_heads_of, prepare_process, shelf_of

    config = read_config(config_path)
    kept = shelf_of(config).find(job)
    prepare_process(config)
    outcome = train_own_heads(config, kept, steps=steps, classifier_alone=classifier_alone)
    if outcome.better:
        own_heads_of(config).keep(kept, outcome.state)
    if as_json:
        print_json(outcome_facts(kept, outcome))
    else:
        click.echo("\n".join(describe_outcome(kept, outcome)))


@click.group()
def model() -> None:
    """Look at the models that this PC keeps."""


@model.command("list")
@config_option
@json_option
def model_list(config_path: Path, as_json: bool) -> None:
    """Show the newest version of each job that this PC has taken part in."""
    from edge_agent.serving.asking import shelf_of
    from edge_agent.serving.facts import describe_model, model_facts

    models = shelf_of(read_config(config_path)).models()
    if as_json:
        print_json([model_facts(each) for each in models])
        return
    for each in models:
        click.echo(describe_model(each))
    if not models:
        click.echo("No model yet; the agent keeps one when a round that this PC took part in is committed.")


def _questions(
    config: AgentFile, training: TrainingSettings, what: str | None, data_name: str | None, file_format: str | None
) -> Iterable[Questions]:
    from edge_agent.serving.asking import own_source, source_at
    from edge_agent.serving.line_input import read_lines
    from ravan.data.source import TableFormat
    from ravan.data.unlabelled import read_questions

    wanted = TableFormat(file_format) if file_format else None
    if data_name is not None:
        return (read_questions(own_source(config, data_name), training),)
    source = source_at(Path(str(what)), config, training, wanted)
    if what == "-":
        lines = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig", errors="replace")
        return read_lines(lines, source, training)
    return (read_questions(source, training),)


def _told_apart(training: TrainingSettings) -> tuple[str, ...]:
    """Return the labels that have probabilities."""
    from ravan.manifest.plan import Task

    return () if training.task is Task.CAUSAL_LM else training.labels


@contextmanager
def _opened(out: Path | None) -> Iterator[TextIO]:
    if out is None:
        # Programs read UTF-8 whatever the terminal speaks; a screen is written to in its own encoding.
        if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
            sys.stdout.reconfigure(encoding="utf-8")
        yield sys.stdout
        return
    with out.open("w", encoding="utf-8", newline="") as file:
        yield file
