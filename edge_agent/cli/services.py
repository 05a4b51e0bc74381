"""`ravan-agent service`: install the agent so that it runs whenever the PC does."""

# ruff: noqa: PLC0415 - commands import what they need when they run

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_agent.cli.options import config_option, json_option, read_config
from ravan.console import EXIT_FAILURE, print_json

if TYPE_CHECKING:
    from edge_agent.service.systemd import SystemdHost
    from edge_agent.service.windows_host import WindowsHost

_name_option = click.option(
    "--name", default="ravan-agent", show_default=True, metavar="NAME", help="Name of the service."
)


@click.group()
def service() -> None:
    """Run the agent as a service: started with the PC, watched over, and under systemd kept from the rest of it.

    The service for Windows is not proven yet; see docs/windows.md.
    """


@service.command("install")
@config_option
@_name_option
@click.option("--user", default="", metavar="USER", help="Run as this user; otherwise as who owns the identity.")
@click.option("--print", "show_only", is_flag=True, help="Only print the unit; change nothing.")
def install(config_path: Path, name: str, user: str, show_only: bool) -> None:
    """Install the service and start it; once more after a change of folders or limits in the configuration.

    Needs root, and gives the agent none of it. --user, --name and --print are for systemd.
    """
    from edge_agent.service.systemd import SystemdHost, unit_settings
    from edge_agent.service.unit import render_unit

    if os.name == "nt":
        read_config(config_path)
        _windows().install(config_path)
        click.echo("The service is installed and started.")
        return
    settings = unit_settings(config_path, read_config(config_path), user)
    if show_only:
        click.echo(render_unit(settings), nl=False)
        return
    host = SystemdHost(name)
    host.install(settings)
    click.echo(f"The service {name} is installed in {host.path} and started.")
    click.echo(f"Next: ravan-agent service status --name {name}")


@service.command("uninstall")
@_name_option
def uninstall(name: str) -> None:
    """Stop the service and remove it; keys, configuration and data stay."""
    _host(name).uninstall()
    click.echo(f"The service {name} is removed. Keys, configuration and data are as they were.")


@service.command("status")
@_name_option
@json_option
def status(name: str, as_json: bool) -> None:
    """Say whether the service runs and what it does; ends with an error where it does not run."""
    import dataclasses

    found = _host(name).status()
    if as_json:
        print_json(dataclasses.asdict(found))
    elif not found.installed:
        click.echo(f"{name} is not installed.")
    else:
        since = f" since {found.since}" if found.since else ""
        click.echo(f"{name} is {found.state}{since}, restarted {found.restarts} times.")
        if found.doing:
            click.echo(found.doing)
    if not found.active:
        sys.exit(EXIT_FAILURE)


def _host(name: str) -> SystemdHost | WindowsHost:
    from edge_agent.service.systemd import SystemdHost

    return _windows() if os.name == "nt" else SystemdHost(name)


def _windows() -> WindowsHost:
    from edge_agent.service.windows_host import WindowsHost

    return WindowsHost()
