"""`token` and `site`: inviting sites, looking at the fleet, revoking."""

# ruff: noqa: PLC0415 - commands import what they need when they run

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import click

from coordinator.cli.connection import Connection, connection_options, json_option
from coordinator.cli.durations import Duration, describe_seconds
from ravan.console import print_json

if TYPE_CHECKING:
    from coordinator.operator_client import OperatorClient
    from ravan.wire.v1 import operator_service_pb2 as wire


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
    """Look at the fleet, endorse and revoke sites."""


@site.command("list")
@json_option
@connection_options
def list_sites(connection: Connection, as_json: bool) -> None:
    """List all sites with what they are doing, or why they are idle."""
    from coordinator.cli.absence import describe_absence, running_rounds
    from coordinator.cli.plain import to_plain
    from coordinator.cli.tables import show_sites

    async def look(client: OperatorClient) -> dict[str, tuple[wire.Site, str]]:
        running = await running_rounds(client)
        return {site.name: (site, describe_absence(site, running)) for site in await client.list_sites()}

    found = connection.call(look)
    if as_json:
        print_json([{**to_plain(site), "idle_because": why} for site, why in found.values()])
    else:
        show_sites(list(found.values()), now=time.time())


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


@site.command("endorse")
@click.argument("name", metavar="SITE")
@click.argument("endorsement", metavar="ENDORSEMENT")
@connection_options
def endorse_site(connection: Connection, name: str, endorsement: str) -> None:
    """Keep the owner's ENDORSEMENT of a site, as `ravan-agent owner endorse` printed it.

    Agents that know the owner's key take part in no round with a site that lacks one. It counts from the next round on.
    """
    from ravan.errors import ErrorReason, IdentityError

    if not re.fullmatch(r"[0-9a-f]{128}", endorsement):
        raise IdentityError(
            "That is no endorsement: it has 128 hexadecimal digits in lower case.",
            reason=ErrorReason.MALFORMED,
            next_step="Copy the whole line that `ravan-agent owner endorse` printed.",
        )
    connection.call(lambda client: client.endorse_site(name, bytes.fromhex(endorsement)))
    click.echo(f"{name} is endorsed from the next round on, for agents whose owner's key fits.")
