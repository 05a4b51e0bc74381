"""Commands about the agent's own process: run it, look at its PC, its configuration and what ails it."""

# ruff: noqa: PLC0415 - `--help` loads neither gRPC nor torch

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_agent.cli.options import config_option, json_option, read_config
from ravan.console import EXIT_FAILURE, print_json

if TYPE_CHECKING:
    from edge_agent.config import AgentFile


@click.command()
@config_option
@click.option(
    "--keep-quantised",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write this site's own updates in the clear to this folder, to check that aggregation is exact.",
)
def run(config_path: Path, keep_quantised: Path | None) -> None:
    """Run the agent until it is told to end; it opens no port."""
    from edge_agent.app import run_agent
    from ravan.logs import set_up_logs

    config = read_config(config_path)
    set_up_logs(config.log)
    run_agent(config, keep_quantised)


@click.command()
@config_option
@json_option
def probe(config_path: Path, as_json: bool) -> None:
    """Show what this PC has, what jobs cost on it, and how much of them it would be given."""
    import dataclasses

    from edge_agent.config import AgentFile
    from edge_agent.hardware.limits import LimitReader
    from edge_agent.hardware.probe import HardwareProbe, training_threads
    from edge_agent.hardware.profile_cache import ProfileCache

    config = read_config(config_path) if config_path.exists() else AgentFile()
    limits = LimitReader(configured_mb=config.agent.ram_limit_mb)
    hardware = HardwareProbe(limits, config.agent.disk_share()).read()
    jobs = [_job_row(measured, hardware.ram_limit_bytes) for measured in _measured(ProfileCache, config)]
    if as_json:
        threads = training_threads(config.agent.threads)
        print_json({**dataclasses.asdict(hardware), "threads": threads, "jobs": jobs})
        return
    aes = "with" if hardware.aes_instructions else "without"
    click.echo(f"cores   {hardware.cores}, training on {training_threads(config.agent.threads)}")
    click.echo(f"CPU     {hardware.cpu_capability}, {aes} AES instructions")
    click.echo(f"memory  {hardware.ram_limit_bytes >> 20} MiB (limited by {hardware.ram_limit_source})")
    click.echo(f"disk    {hardware.disk_free_bytes >> 20} MiB free")
    for row in jobs:
        click.echo(
            f"job     {row['job']}: {row['matrices_that_fit']} of {row['matrices']} matrices fit,"
            f" {row['step_ms']} ms a step with all of them"
        )
    if not jobs:
        click.echo("job     none measured yet; the agent measures when a job comes")


@click.group()
def config() -> None:
    """Look at the configuration."""


@config.command("check")
@config_option
def config_check(config_path: Path) -> None:
    """Read the configuration as the agent would and say whether it is sound."""
    from ravan.rpc.otlp import check_tracing

    loaded = read_config(config_path)
    check_tracing(loaded.tracing)
    names = ", ".join(loaded.data) or "none yet"
    click.echo(f"{config_path} is sound. Data: {names}.")


@click.command()
@config_option
@json_option
def doctor(config_path: Path, as_json: bool) -> None:
    """Find out what keeps this PC from taking part."""
    import asyncio
    import dataclasses

    from edge_agent.doctor import examine

    findings = asyncio.run(examine(read_config(config_path)))
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        for finding in findings:
            remedy = f"  -> {finding.remedy}" if finding.remedy else ""
            click.echo(f"{'ok ' if finding.good else 'BAD'}  {finding.name}: {finding.sentence}{remedy}")
    if not all(finding.good for finding in findings):
        sys.exit(EXIT_FAILURE)


def _measured(cache: Any, config: AgentFile) -> Any:
    return cache(config.agent.state_dir / "profiles").all()


def _job_row(measured: Any, limit_bytes: int) -> dict[str, Any]:
    profile = measured.profile
    fitting = [count for count in range(1, measured.matrices + 1) if profile.peak_bytes(count) <= limit_bytes]
    return {
        "job": measured.job_name,
        "matrices": measured.matrices,
        "matrices_that_fit": max(fitting, default=0),
        "ram_loaded_mb": profile.ram_loaded_bytes >> 20,
        "step_ms": round(1000 * profile.step_s(measured.matrices)),
    }
