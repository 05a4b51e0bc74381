"""`token` and `site`: inviting sites, looking at the fleet, revoking."""

# ruff: noqa: PLC0415 - commands import what they need when they run

from __future__ import annotations

import time

import click

from coordinator.cli.connection import Connection, connection_options, json_option
from coordinator.cli.durations import Duration, describe_seconds
from ravan.console import print_json


@click.group()
def token() -> None:
    """Invite sites."""


@token.command("create")
@click.option(
    "--site", metavar="NAME", required=True, help="The site's name: lower-case letters, digits, inner hyphens."
)
@click.option("--ttl", type=Duration(), default="24h", show_default=True, help="How long the invitation holds.")
@json_option
@connection_options
def create_token(connection: Connection, site: str, ttl: int, as_json: bool) -> None:
    """Print one join string, good for one PC.

    Standard output holds the join string alone; treat it like a password until it was used.
    """
    answer = connection.call(lambda client: client.create_token(site, ttl_s=ttl))
    if as_json:
        print_json({"site": site, "join_string": answer.join_string, "expires_at": answer.expires_at})
        return
    click.echo(answer.join_string)
    click.echo(
        f"Good for {site} once, for {describe_seconds(ttl)}. On the PC: ravan-agent enroll - --dir DIR", err=True
    )


@click.group()
def site() -> None:
    """Look at the fleet and revoke sites."""


@site.command("list")
@json_option
@connection_options
def list_sites(connection: Connection, as_json: bool) -> None:
    """List all sites with what they are doing."""
    from coordinator.cli.plain import to_plain
    from coordinator.cli.tables import show_sites

    sites = connection.call(lambda client: client.list_sites())
    if as_json:
        print_json([to_plain(each) for each in sites])
    else:
        show_sites(sites, now=time.time())


@site.command("show")
@click.argument("name", metavar="SITE")
@json_option
@connection_options
def show_site(connection: Connection, name: str, as_json: bool) -> None:
    """Show one site with its machine."""
    from coordinator.cli.plain import to_plain
    from coordinator.cli.tables import show_site_details

    found = connection.call(lambda client: client.list_sites(name))[0]
    if as_json:
        print_json(to_plain(found))
    else:
        show_site_details(found, now=time.time())


@site.command("revoke")
@click.argument("name", metavar="SITE")
@connection_options
def revoke_site(connection: Connection, name: str) -> None:
    """Refuse a site's certificate from now on and end its connection."""
    connection.call(lambda client: client.revoke_site(name))
    click.echo(f"{name} is revoked. To let it back in: ravan-coordinator token create --site {name}")
