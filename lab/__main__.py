"""`python -m lab run PLAN`, `python -m lab report PLAN` and `python -m lab confirm PLAN`."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ravan.errors import RavanError

if TYPE_CHECKING:
    from lab.report.overview import Study


@click.group()
def main() -> None:
    """Run studies of accuracy, and tell what came of them."""


_PLAN_PATH = click.Path(exists=True, dir_okay=False, path_type=Path)
_PLAN = click.argument("plan_path", metavar="PLAN", type=_PLAN_PATH)
_OUT = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("lab-runs"),
    show_default=True,
    help="Folder of outcomes; a study goes on from what lies there, and plays no run that another study there has.",
)


@main.command()
@_PLAN
@_OUT
@click.option("--workers", type=click.IntRange(1), default=os.cpu_count() or 1, show_default=True, help="Runs at once.")
@click.option("--ray", "ray_address", default="", help="Address of a Ray cluster that plays the runs instead.")
@click.option("--dry-run", is_flag=True, help="Print what it would take, and stop.")
def run(plan_path: Path, out: Path, workers: int, ray_address: str, dry_run: bool) -> None:
    """Choose learning rates, play all runs, and print the report."""
    from lab.study.crew import local_crew, ray_crew  # noqa: PLC0415 - slow to import: --help stays quick
    from lab.study.estimate import estimate_seconds  # noqa: PLC0415
    from lab.study.outcomes import OutcomeFile  # noqa: PLC0415
    from lab.study.plan import load_plan  # noqa: PLC0415
    from lab.study.progress import show_progress  # noqa: PLC0415
    from lab.study.run import Course, look_ahead  # noqa: PLC0415

    plan = load_plan(plan_path)
    outcomes = OutcomeFile(_outcome_path(out, plan.study.name), out.glob("*/outcomes.jsonl"))
    click.echo("measuring what a step takes...", err=True)
    ahead = look_ahead(plan, outcomes)
    hours = estimate_seconds(ahead.cells) / 3600
    click.echo(
        f"{plan.study.name}: {len(ahead.cells)} runs to play, about {hours:.2f} core hours, "
        f"{hours / workers:.2f} hours with {workers} at once; {ahead.kept} are kept from before."
    )
    if dry_run:
        return
    started = time.monotonic()
    crew = ray_crew(ray_address) if ray_address else local_crew(workers)
    with crew as submit, show_progress(len(ahead.cells), ahead.kept) as told:
        course = Course(plan=plan, outcomes=outcomes, submit=submit, told=told)
        chosen = course.tune()
        course.judge(chosen)
    click.echo(f"done after {(time.monotonic() - started) / 60:.1f} minutes", err=True)
    _report(plan_path, out)


@main.command()
@click.argument("plan_paths", metavar="PLAN...", type=_PLAN_PATH, nargs=-1, required=True)
@_OUT
def report(plan_paths: tuple[Path, ...], out: Path) -> None:
    """Print the tables of what has been run so far, and draw the plots beside the outcomes.

    Several plans are also set side by side, methods by tasks and federations.
    """
    from lab.report.overview import write_overview  # noqa: PLC0415 - slow to import

    studies = [_report(path, out) for path in plan_paths]
    if len(studies) > 1:
        click.echo(f"# side by side\n\n{write_overview(studies)}")


@main.command()
@_PLAN
@_OUT
@click.option("--method", "method_name", default="ravan", show_default=True, help="Method of the plan.")
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True, help="Jobs, one after another.")
def confirm(plan_path: Path, out: Path, method_name: str, runs: int) -> None:
    """Run a method's jobs with the product, and compare with the simulator's outcomes.

    The plan's first federation is played: a coordinator and an agent for each client, on this machine.
    """
    from deploy.demo.plant import CommandFailedError  # noqa: PLC0415 - slow to import
    from deploy.demo.progress import Narrator  # noqa: PLC0415
    from deploy.demo.run import DemoFailedError  # noqa: PLC0415
    from lab.product.confirmation import ProductFile, final_accuracies, say_confirmation  # noqa: PLC0415
    from lab.product.played_cell import play_with_product  # noqa: PLC0415
    from lab.study.outcomes import OutcomeFile  # noqa: PLC0415
    from lab.study.plan import load_plan  # noqa: PLC0415
    from lab.study.run import cells_of, rates_found  # noqa: PLC0415

    plan = load_plan(plan_path)
    outcomes = OutcomeFile(_outcome_path(out, plan.study.name))
    cells = cells_of(plan, rates_found(plan, outcomes), method_name)
    cell = cells[0]
    product = ProductFile(out / plan.study.name / "product.jsonl", cell)
    try:
        with tempfile.TemporaryDirectory(prefix="ravan-lab-") as folder:
            play_with_product(cell, runs, Path(folder), Narrator(), product.add)
    except (CommandFailedError, DemoFailedError) as error:
        raise click.ClickException(str(error)) from error
    # Read anew: the study may have gone on meanwhile.
    outcomes = OutcomeFile(_outcome_path(out, plan.study.name))
    found = [outcome.accuracy for each in cells if (outcome := outcomes.find(each)) is not None]
    click.echo(say_confirmation(final_accuracies(product.runs, cell.training.average_last), found))


def _report(plan_path: Path, out: Path) -> Study:
    from lab.report.comparison import compare_methods  # noqa: PLC0415 - slow to import
    from lab.report.overview import Study  # noqa: PLC0415
    from lab.report.plots import draw_differences  # noqa: PLC0415
    from lab.report.tables import write_tables  # noqa: PLC0415
    from lab.study.outcomes import OutcomeFile  # noqa: PLC0415
    from lab.study.plan import load_plan  # noqa: PLC0415
    from lab.study.run import rates_found  # noqa: PLC0415

    plan = load_plan(plan_path)
    outcomes = OutcomeFile(_outcome_path(out, plan.study.name))
    rows = tuple(compare_methods(plan, rates_found(plan, outcomes), outcomes))
    click.echo(write_tables(plan, rows))
    for path in draw_differences(plan, rows, out / plan.study.name):
        click.echo(f"drew {path}", err=True)
    return Study(plan=plan, rows=rows)


def _outcome_path(out: Path, name: str) -> Path:
    return out / name / "outcomes.jsonl"


def _run() -> None:
    try:
        main(standalone_mode=True)
    except RavanError as error:
        click.echo(f"{error} {error.next_step}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    _run()
