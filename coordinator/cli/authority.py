"""`ca`: renewing the coordinator's own certificates, and changing from one certificate authority to the next."""

# ruff: noqa: PLC0415 - commands import what they need when they run

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from coordinator.cli.connection import config_option, config_path

if TYPE_CHECKING:
    from coordinator.config import CoordinatorFile
    from coordinator.enrolment.ca import Authority

Command = TypeVar("Command", bound=Callable[..., Any])

_file = click.Path(path_type=Path, dir_okay=False)


def own_authority_options(command: Command) -> Command:
    """Let a command take an authority of the operator's own."""
    for name, what in (
        ("--ca-key", "Its private key, PEM, P-256."),
        ("--ca-certificate", "Authority of your own, PEM."),
    ):
        command = click.option(name, type=_file, metavar="FILE", help=what)(command)
    return command


def own_authority(certificate: Path | None, key: Path | None, *, now: float) -> Authority | None:
    """Read what these options name; None when they name nothing. Raises ConfigError, IdentityError."""
    from coordinator.enrolment.own_ca import read_own_authority

    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise click.UsageError("--ca-certificate and --ca-key go together.")
    return read_own_authority(certificate, key, now=now)


@click.group()
def ca() -> None:
    """Renew this coordinator's own certificates, or change to another certificate authority.

    A running coordinator takes the changes up by itself.
    """


@ca.command()
@config_option
def renew(config_file: Path | None) -> None:
    """Issue the certificates of server and administrator anew, for the hosts in the configuration."""
    from coordinator.enrolment.pki import CA_CERTIFICATE, CA_KEY, read_authority, write_leaves

    loaded, folder = _load(config_file)
    authority = read_authority(folder / CA_KEY, folder / CA_CERTIFICATE)
    write_leaves(folder, authority, loaded.server.hosts, time.time())
    click.echo(
        f"Server and administrator have new certificates. A copy of {folder}/admin.* elsewhere is good until it ends."
    )


@ca.command()
@own_authority_options
@config_option
def roll(config_file: Path | None, ca_certificate: Path | None, ca_key: Path | None) -> None:
    """Introduce the next authority: sites learn of it when they connect; nothing else changes yet.

    Prints the hand-over, for sites that stay away until after `ca switch`.
    """
    from coordinator.enrolment.rollover import introduce

    _, folder = _load(config_file)
    now = time.time()
    click.echo(introduce(folder, now=now, authority=own_authority(ca_certificate, ca_key, now=now)))
    click.echo("Sites that connect from now on trust the next authority as well.", err=True)
    click.echo("Next, when all of them have connected once: ravan-coordinator ca switch", err=True)


@ca.command()
@config_option
def switch(config_file: Path | None) -> None:
    """Let the next authority sign from now on, and delete the key of the old one."""
    from coordinator.config import server_files
    from coordinator.enrolment.rollover import switch as switch_authority

    loaded, folder = _load(config_file)
    switch_authority(folder, loaded.server.hosts, now=time.time(), server=server_files(loaded))
    days = loaded.enrolment.certificate_days
    click.echo("The next authority signs from now on; the old key is deleted. Join strings from before are void.")
    click.echo("Operators elsewhere, browsers and Prometheus need a new folder now: ravan-coordinator operator create")
    click.echo(f"Next, in {days} days, when every site has renewed: ravan-coordinator ca retire")


@ca.command()
@config_option
def retire(config_file: Path | None) -> None:
    """Let nobody in with a certificate of the old authority any more."""
    from coordinator.enrolment.rollover import retire as retire_authority

    _, folder = _load(config_file)
    retire_authority(folder)
    click.echo("The old authority is retired. A site that still has its certificate renews by its identity key.")


@ca.command("hand-over")
@click.option(
    "--from",
    "before",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    metavar="DIR",
    help="The pki folder of before.",
)
@config_option
def hand_over(config_file: Path | None, before: Path) -> None:
    """Print a hand-over from the authority of an older key folder to the one of this coordinator.

    For sites that know only the older one: `ravan-agent trust HAND_OVER`.
    """
    from coordinator.enrolment.pki import load_pki
    from coordinator.enrolment.rollover import make_hand_over

    _, folder = _load(config_file)
    own = load_pki(folder)
    click.echo(make_hand_over(before, own.authority.certificate, own.manifest_public))


def _load(config_file: Path | None) -> tuple[CoordinatorFile, Path]:
    from coordinator.config import DataFolder, load_config

    loaded = load_config(config_path(config_file))
    return loaded, DataFolder(loaded.server.data_dir).pki
