"""The way out of a house: directly, or through an HTTP proxy. How it is written and read; pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

_NAMES: Final = ("grpc_proxy", "https_proxy", "http_proxy")
_SPARING: Final = ("no_grpc_proxy", "no_proxy")
"""Environment variables as gRPC reads them, of which the first one counts; here capitals are as good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """An HTTP proxy."""

    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How connections go out."""

    proxy: Proxy | None = None
    spared: tuple[str, ...] = ()
    """Hosts, ends of host names and networks that are dialled directly."""

    def to(self, host: str) -> Proxy | None:
        """Return the proxy towards a host; None to dial it directly."""
        return None if any(_covers(entry, host) for entry in self.spared) else self.proxy


DIRECT: Final = Way()


def read_proxy(text: str) -> Proxy:
    """Read `http://USER:PASSWORD@HOST:PORT`, where user and password may be absent; raise ValueError."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("this is no address; a proxy's looks like http://USER@HOST:PORT") from None
    if parts.scheme != "http" or not host or not port or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("a proxy's address looks like http://USER@HOST:PORT")
    return Proxy(host=host, port=port, user=unquote(parts.username or ""), password=unquote(parts.password or ""))


def check_proxy(text: str) -> str:
    """Return what a configuration has for a proxy, which may be nothing; raise ValueError, also for a password."""
    if text and read_proxy(text).password:
        raise ValueError("no password may stand here; put it into a file of its own, named in proxy_password_file")
    return text


def way_of_environment(environment: Mapping[str, str]) -> Way:
    """Return the way that `https_proxy` and `no_proxy` name; what cannot be read there is no proxy."""
    text = _first_of(_NAMES, environment)
    try:
        proxy = read_proxy(text if "://" in text else f"http://{text}")
    except ValueError:
        return DIRECT
    spared = (entry.strip() for entry in _first_of(_SPARING, environment).split(","))
    return Way(proxy=proxy, spared=tuple(entry for entry in spared if entry))


def _first_of(names: tuple[str, ...], environment: Mapping[str, str]) -> str:
    spelt = (each for name in names for each in (name, name.upper()))
    return next((environment[each] for each in spelt if environment.get(each)), "")


def _covers(entry: str, host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    name, end = host.lower(), entry.lower().removeprefix("*").removeprefix(".")
    return entry == "*" or (bool(end) and (name == end or name.endswith(f".{end}")))
