"""Options that say which coordinator an operator's command speaks to, and the connection made from them."""

# ruff: noqa: PLC0415 - commands import what they need when they run

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from coordinator.operator_client import Endpoint, OperatorClient

Result = TypeVar("Result")

CONFIG_VARIABLE: Final = "RAVAN_CONFIG"
_DEFAULT_FILE: Final = "coordinator.toml"

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where and as whom a command connects."""

    config: Path | None
    server: str | None
    certificate: Path | None
    key: Path | None
    ca: Path | None

    def call(self, work: Callable[[OperatorClient], Awaitable[Result]]) -> Result:
        """Connect, do the work, and close; raise RavanError with a sentence."""
        from coordinator.operator_client import OperatorClient

        endpoint = self._endpoint()

        async def connected() -> Result:
            async with OperatorClient(endpoint) as client:
                return await work(client)

        return asyncio.run(connected())

    def _endpoint(self) -> Endpoint:
        from coordinator.config import load_config
        from coordinator.operator_client import local_endpoint, remote_endpoint

        if self.server is None:
            path = config_path(self.config)
            return local_endpoint(load_config(path), path)
        missing = [
            name for name, value in (("--cert", self.certificate), ("--key", self.key), ("--ca", self.ca)) if not value
        ]
        if missing or not (self.certificate and self.key and self.ca):
            raise click.UsageError(f"--server also needs {', '.join(missing)}.")
        return remote_endpoint(self.server, certificate=self.certificate, key=self.key, ca=self.ca)


def config_path(given: Path | None) -> Path:
    """Return the configuration file to use: the one given, `./coordinator.toml`, or `$RAVAN_CONFIG`."""
    if given is not None:
        return given
    local = Path(_DEFAULT_FILE)
    named = os.environ.get(CONFIG_VARIABLE)
    return Path(named) if named and not local.exists() else local


config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="Configuration file; else ./coordinator.toml, else $RAVAN_CONFIG.",
)


def connection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a connection to a command, which gets a `Connection` as its first argument."""

    @config_option
    @click.option("--server", metavar="HOST:PORT", help="Coordinator on another machine, instead of --config.")
    @click.option("--cert", type=click.Path(path_type=Path), help="Operator certificate, with --server.")
    @click.option("--key", type=click.Path(path_type=Path), help="Key of that certificate, with --server.")
    @click.option("--ca", type=click.Path(path_type=Path), help="The coordinator's CA certificate, with --server.")
    @functools.wraps(command)
    def connected(
        *args: Any,
        config_file: Path | None,
        server: str | None,
        cert: Path | None,
        key: Path | None,
        ca: Path | None,
        **options: Any,
    ) -> Any:
        connection = Connection(config=config_file, server=server, certificate=cert, key=key, ca=ca)
        return command(connection, *args, **options)

    return connected
