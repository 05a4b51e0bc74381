"""The command line `ravan-agent`.

Commands import what they need when they run: `--help` loads neither gRPC nor torch.
"""

# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_agent.cli_membership import enroll, leave, trust
from edge_agent.cli_options import config_option, json_option
from edge_agent.cli_owner import owner
from edge_agent.cli_records import audit, support_bundle
from edge_agent.cli_service import service
from edge_agent.cli_serving import model, personalise, predict, serve_model
from ravan.console import EXIT_FAILURE, print_json, run_command
from ravan.errors import ConfigError, ErrorReason
from ravan.version import VERSION

if TYPE_CHECKING:
    from edge_agent.config import AgentFile


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="ravan-agent", message="%(prog)s %(version)s")
def cli() -> None:
    """Let this PC take part in federated fine-tuning; its data never leave it.

    Begin with `ravan-agent enroll JOIN_STRING --dir DIR`, then `ravan-agent run`.
    """


@cli.command()
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

    config = _load(config_path)
    set_up_logs(config.log)
    run_agent(config, keep_quantised)


@cli.command()
@config_option
@json_option
def probe(config_path: Path, as_json: bool) -> None:
    """Show what this PC has, what jobs cost on it, and how much of them it would be given."""
    import dataclasses

    from edge_agent.config import AgentFile
    from edge_agent.hardware.limits import LimitReader
    from edge_agent.hardware.probe import HardwareProbe, training_threads
    from edge_agent.hardware.profile_cache import ProfileCache

    config = _load(config_path) if config_path.exists() else AgentFile()
    limits = LimitReader(configured_mb=config.agent.ram_limit_mb)
    hardware = HardwareProbe(limits, config.agent.cache_dir).read()
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


@cli.group()
def config() -> None:
    """Look at the configuration."""


@config.command("check")
@config_option
def config_check(config_path: Path) -> None:
    """Read the configuration as the agent would and say whether it is sound."""
    loaded = _load(config_path)
    names = ", ".join(loaded.data) or "none yet"
    click.echo(f"{config_path} is sound. Data: {names}.")


@cli.group()
def data() -> None:
    """Look at this site's data."""


@data.command("check")
@click.argument("name", required=False)
@config_option
@json_option
@click.option("--job-labels", metavar="A,B,...", default="", help="The job's labels, to find rows with others.")
@click.option("--job-channels", metavar="A,B,...", default="", help="Series: the model's channels, to find gaps.")
def data_check(name: str | None, config_path: Path, as_json: bool, job_labels: str, job_channels: str) -> None:
    """Read the data NAME, or all, and say what a job would find: counts by label and faulty rows, no contents.

    Ends with an error where this PC could not take part.
    """
    import dataclasses

    from edge_agent.data.inspection import inspect_data
    from edge_agent.data.report import Expectation, describe_report

    loaded = _load(config_path)
    if not loaded.data:
        raise ConfigError(
            f"{config_path} names no data.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="Add a [data.NAME] table; the comments in the file show how.",
        )
    expected = Expectation(labels=_listed(job_labels), channels=_listed(job_channels))
    names = loaded.data if name is None else (name,)
    reports = {each: inspect_data(loaded, each, expected) for each in names}
    if as_json:
        print_json({each: dataclasses.asdict(report) for each, report in reports.items()})
    else:
        for each, report in reports.items():
            click.echo("\n".join(describe_report(each, report, expected)))
    if any(report.obstacle for report in reports.values()):
        sys.exit(EXIT_FAILURE)


@cli.group()
def site() -> None:
    """Look at the other sites that this PC has met in its rounds, and at the keys that it remembers of them."""


@site.command("list")
@config_option
@json_option
def site_list(config_path: Path, as_json: bool) -> None:
    """Show each site with its key's fingerprint and when it was first seen."""
    from edge_agent.session.acquaintance_file import AcquaintanceFile, describe_time

    known = AcquaintanceFile(_load(config_path).agent.state_dir).read()
    rows = [(each.site, each.fingerprint, describe_time(each.first_seen)) for each in known]
    if as_json:
        print_json([dict(zip(("site", "fingerprint", "first_seen"), row, strict=True)) for row in rows])
        return
    width = max((len(row[0]) for row in rows), default=0)
    for name, key, first_seen in rows:
        click.echo(f"{name:{width}}  {key}  first seen {first_seen}")
    if not rows:
        click.echo("No other site yet; this PC meets them in its first round.")


@site.command("forget")
@click.argument("name")
@config_option
def site_forget(name: str, config_path: Path) -> None:
    """Forget the key of the site NAME, once its people have said that they enrolled again.

    A running agent takes this into account at its next round.
    """
    from edge_agent.session.acquaintance_file import AcquaintanceFile
    from ravan.ids import SiteId

    forgotten = AcquaintanceFile(_load(config_path).agent.state_dir).forget(SiteId(name))
    click.echo(f"{name} is forgotten; its key was {forgotten.fingerprint}.")
    click.echo("The key that it shows in its next round will be remembered. Compare that one with its people:")
    click.echo(f"    ravan-agent site list --config {config_path}")


@cli.command()
@config_option
@json_option
def identity(config_path: Path, as_json: bool) -> None:
    """Show this PC's name and the public key that stands for it in secure aggregation.

    Read it out to the other plants, and to the owner who endorses it.
    """
    from edge_agent.identity.keystore import load_identity
    from edge_agent.session.acquaintances import fingerprint
    from ravan.identity.keys import raw_public

    own = load_identity(_load(config_path).agent.identity_dir)
    key = raw_public(own.identity_key)
    if as_json:
        print_json({"site": own.site, "identity": key.hex(), "fingerprint": fingerprint(key)})
        return
    click.echo(f"site         {own.site}")
    click.echo(f"identity     {key.hex()}")
    click.echo(f"fingerprint  {fingerprint(key)}")


@cli.command()
@config_option
@json_option
def doctor(config_path: Path, as_json: bool) -> None:
    """Find out what keeps this PC from taking part."""
    import asyncio
    import dataclasses

    from edge_agent.doctor import examine

    findings = asyncio.run(examine(_load(config_path)))
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        for finding in findings:
            remedy = f"  -> {finding.remedy}" if finding.remedy else ""
            click.echo(f"{'ok ' if finding.good else 'BAD'}  {finding.name}: {finding.sentence}{remedy}")
    if not all(finding.good for finding in findings):
        sys.exit(EXIT_FAILURE)


for command in (
    enroll,
    owner,
    leave,
    trust,
    audit,
    service,
    support_bundle,
    predict,
    serve_model,
    personalise,
    model,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line; errors end as one sentence and what to do next."""
    run_command(lambda: cli(prog_name="ravan-agent"), as_json="--json" in sys.argv[1:])


def _load(path: Path) -> AgentFile:
    from edge_agent.config import load_config

    return load_config(path)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in text.split(",") if each.strip())


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
