"""`leave` and `trust`: the end of a membership, and another certificate authority for it."""

# ruff: noqa: PLC0415 - commands import what they need when they run

from __future__ import annotations

import sys
from pathlib import Path

import click

from edge_agent.cli_options import config_option


@click.command()
@config_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--without-coordinator", is_flag=True, help="Delete the keys though nobody at HQ can be told.")
def leave(config_path: Path, yes: bool, without_coordinator: bool) -> None:
    """Leave the federation for good: have this PC's certificate revoked, and delete its keys.

    End a running agent first; it leaves its round as it ends. Data, models and the configuration stay.
    """
    import asyncio

    from edge_agent.config import load_config
    from edge_agent.identity.keystore import load_identity
    from edge_agent.session.departure import depart

    folder = load_config(config_path).agent.identity_dir
    own = load_identity(folder)
    if not yes:
        click.confirm(f"Delete the keys of {own.site} and leave the coordinator at {own.address.host}?", abort=True)
    asyncio.run(depart(folder, tell=not without_coordinator))
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

    from edge_agent.config import load_config
    from edge_agent.identity.grants import follow_hand_over
    from edge_agent.identity.keystore import load_identity, save_trust
    from edge_agent.identity.lock import hold_identity
    from edge_agent.identity.recovery import renew_by_identity
    from ravan.identity.certificates import describe_certificate
    from ravan.identity.handover import decode_hand_over

    text = sys.stdin.read() if hand_over == "-" else hand_over
    folder = load_config(config_path).agent.identity_dir
    identity = load_identity(folder)
    with hold_identity(folder):
        followed = follow_hand_over(identity, text)
        save_trust(folder, followed)
        click.echo(f"This PC trusts {describe_certificate(decode_hand_over(text).authority)}.")
        asyncio.run(renew_by_identity(folder, followed))
    click.echo("It has a certificate for the coordinator of now. Start the agent as usual.")
