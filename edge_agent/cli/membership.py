"""`enroll`, `leave` and `trust`: a membership's beginning and end, and another certificate authority for it."""

# ruff: noqa: PLC0415 - commands import what they need when they run

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from edge_agent.cli.options import config_option, read_config
from ravan.errors import RavanError


@click.command()
@click.argument("join_string")
@click.option(
    "--dir",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="New folder.",
)
@click.option("--replace", is_flag=True, help="Turn a folder that is enrolled to this coordinator; its keys stay.")
@click.option("--proxy", metavar="URL", default="", help="HTTP proxy that lets connections out: http://USER@HOST:PORT.")
@click.option(
    "--proxy-password-file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the proxy's password.",
)
def enroll(join_string: str, folder: Path, replace: bool, proxy: str, proxy_password_file: Path | None) -> None:
    """Make this PC's keys in DIR and have the coordinator certify them.

    JOIN_STRING comes from `ravan-coordinator token create` at HQ and serves once; `-` reads it from standard input.
    """
    import asyncio

    from edge_agent.config import FILE_NAME, AgentTable, prepare_config
    from edge_agent.identity.enrol import enrol
    from edge_agent.identity.reach import reach_of

    config_path = folder / FILE_NAME
    config = prepare_config(config_path, proxy=proxy, proxy_password_file=proxy_password_file)
    text = sys.stdin.read() if join_string == "-" else join_string
    reach = reach_of(config.settings.agent, os.environ)
    identity_dir = folder / AgentTable().identity_dir
    identity = asyncio.run(enrol(text.strip(), identity_dir, reach, _warn, replace=replace))
    if not config_path.exists():
        config_path.write_text(config.text, encoding="utf-8")
    click.echo(f"This PC is now the site {identity.site} of the coordinator at {identity.address.host}.")
    click.echo(f"Next: tell it where its data lie, in a [data.NAME] table of {config_path}, then start it:")
    click.echo(f"    ravan-agent run --config {config_path}")


def _warn(fault: RavanError) -> None:
    click.echo(f"Warning: {fault} {fault.next_step}", err=True)


@click.command()
@config_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--without-coordinator", is_flag=True, help="Delete the keys though nobody at HQ can be told.")
def leave(config_path: Path, yes: bool, without_coordinator: bool) -> None:
    """Leave the federation for good: have this PC's certificate revoked, and delete its keys.

    End a running agent first; it leaves its round as it ends. Data, models and the configuration stay.
    """
    import asyncio

    from edge_agent.identity.keystore import load_identity
    from edge_agent.identity.reach import reach_of
    from edge_agent.session.departure import depart

    settings = read_config(config_path).agent
    folder, reach = settings.identity_dir, reach_of(settings, os.environ)
    own = load_identity(folder)
    if not yes:
        click.confirm(f"Delete the keys of {own.site} and leave the coordinator at {own.address.host}?", abort=True)
    asyncio.run(depart(folder, reach, tell=not without_coordinator))
    click.echo(f"This PC is no longer the site {own.site}; its keys are deleted.")
    if without_coordinator:
        click.echo(f"Tell HQ: its certificate is good until `ravan-coordinator site revoke {own.site}`.")


@click.command()
@click.argument("hand_over")
@config_option
def trust(hand_over: str, config_path: Path) -> None:
    """Trust the certificate authority that HAND_OVER names, if one that this PC trusts has signed that.

    Then fetch a certificate of that authority, by this PC's identity key.

    For a PC that was away while HQ changed its authority. `-` reads HAND_OVER from standard input.
    """
    import asyncio

    from edge_agent.identity.grants import follow_hand_over
    from edge_agent.identity.keystore import load_identity, save_trust
    from edge_agent.identity.lock import hold_identity
    from edge_agent.identity.reach import reach_of
    from edge_agent.identity.recovery import renew_by_identity
    from ravan.identity.certificates import describe_certificate
    from ravan.identity.handover import decode_hand_over

    text = sys.stdin.read() if hand_over == "-" else hand_over
    settings = read_config(config_path).agent
    folder, reach = settings.identity_dir, reach_of(settings, os.environ)
    identity = load_identity(folder)
    with hold_identity(folder):
        followed = follow_hand_over(identity, text)
        save_trust(folder, followed)
        click.echo(f"This PC trusts {describe_certificate(decode_hand_over(text).authority)}.")
        asyncio.run(renew_by_identity(folder, followed, reach))
    click.echo("It has a certificate for the coordinator of now. Start the agent as usual.")
