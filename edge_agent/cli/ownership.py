"""`ravan-agent owner`: what the plants' owner does, on a machine of its own."""

# ruff: noqa: PLC0415 - commands import what they need when they run

from __future__ import annotations

import re
from pathlib import Path

import click

from ravan.errors import ErrorReason, IdentityError, StateError


@click.group()
def owner() -> None:
    """Vouch for sites with a key that headquarters does not have.

    Agents whose [policy] holds the owner's public key take part in no round with a site that is not endorsed.
    """


@owner.command("create")
@click.option("--out", "path", metavar="FILE", required=True, type=click.Path(path_type=Path), help="New key file.")
def create(path: Path) -> None:
    """Make the owner's key in FILE, readable by its owner alone, and print the public half."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from ravan.identity.keyfiles import make_private_folder, write_private
    from ravan.identity.keys import private_pem, raw_public

    if path.exists():
        raise StateError(
            f"{path} exists; a key that is overwritten is lost, and every endorsement with it.",
            reason=ErrorReason.ALREADY_EXISTS,
            next_step="Name a new file with --out.",
        )
    key = Ed25519PrivateKey.generate()
    make_private_folder(path.parent)
    write_private(path, private_pem(key))
    click.echo(raw_public(key).hex())
    click.echo("Keep the file away from headquarters. At each site, put into [policy] of agent.toml:", err=True)
    click.echo(f'    owner_key = "{raw_public(key).hex()}"', err=True)


@owner.command("endorse")
@click.option("--key", "path", metavar="FILE", required=True, type=click.Path(path_type=Path), help="The owner's key.")
@click.option("--site", "name", metavar="NAME", required=True, help="The site's name, as its people say it.")
@click.option("--identity", metavar="HEX", required=True, help="What `ravan-agent identity` shows on its PC.")
def endorse_site(path: Path, name: str, identity: str) -> None:
    """Sign that a site's PC has this identity, and print the endorsement for headquarters.

    Ask the people at the site, not headquarters, for the identity.
    """
    from ravan.identity.endorsement import endorse
    from ravan.identity.keyfiles import read_private
    from ravan.identity.keys import read_identity_key
    from ravan.ids import SiteId

    if not re.fullmatch(r"[0-9a-f]{64}", identity):
        raise IdentityError(
            f"'{identity[:80]}' is no identity: that is 64 hexadecimal digits in lower case.",
            reason=ErrorReason.MALFORMED,
            next_step="Copy what `ravan-agent identity` prints on the site's PC.",
        )
    endorsement = endorse(read_identity_key(read_private(path)), SiteId(name), bytes.fromhex(identity))
    click.echo(endorsement.hex())
    click.echo(f"At headquarters: ravan-coordinator site endorse {name} ENDORSEMENT", err=True)
