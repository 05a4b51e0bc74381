"""Commands about who is who: the other sites that this PC has met, and itself."""

# ruff: noqa: PLC0415 - `--help` loads neither gRPC nor torch

from __future__ import annotations

from pathlib import Path

import click

from edge_agent.cli.options import config_option, json_option, read_config
from ravan.console import print_json


@click.group()
def site() -> None:
    """Look at the other sites that this PC has met in its rounds, and at the keys that it remembers of them."""


@site.command("list")
@config_option
@json_option
def site_list(config_path: Path, as_json: bool) -> None:
    """Show each site with its key's fingerprint and when it was first seen."""
    from edge_agent.session.acquaintance_file import AcquaintanceFile, describe_time

    known = AcquaintanceFile(read_config(config_path).agent.state_dir).read()
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

    forgotten = AcquaintanceFile(read_config(config_path).agent.state_dir).forget(SiteId(name))
    click.echo(f"{name} is forgotten; its key was {forgotten.fingerprint}.")
    click.echo("The key that it shows in its next round will be remembered. Compare that one with its people:")
    click.echo(f"    ravan-agent site list --config {config_path}")


@click.command()
@config_option
@json_option
def identity(config_path: Path, as_json: bool) -> None:
    """Show this PC's name and the public key that stands for it in secure aggregation.

    Read it out to the other plants, and to the owner who endorses it.
    """
    from edge_agent.identity.keystore import load_identity
    from edge_agent.session.acquaintances import fingerprint
    from ravan.identity.keys import raw_public

    own = load_identity(read_config(config_path).agent.identity_dir)
    key = raw_public(own.identity_key)
    if as_json:
        print_json({"site": own.site, "identity": key.hex(), "fingerprint": fingerprint(key)})
        return
    click.echo(f"site         {own.site}")
    click.echo(f"identity     {key.hex()}")
    click.echo(f"fingerprint  {fingerprint(key)}")
