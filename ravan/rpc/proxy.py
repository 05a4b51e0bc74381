"""HTTP proxies as connections use them: gRPC's options, and CONNECT by hand for a closer look."""

from __future__ import annotations

import asyncio
import base64
import os
from contextlib import suppress
from typing import Final
from urllib.parse import quote

from ravan.rpc.addresses import target_of
from ravan.way_out import Proxy

_ANSWER_BYTES: Final = 65_536
_OK: Final = b"200"
_ASKED_FIRST: Final = "no_grpc_proxy"


def channel_options(proxy: Proxy | None) -> tuple[tuple[str, str | int], ...]:
    """Return gRPC's options for this way and no other, whatever the environment says."""
    if proxy is None:
        return (("grpc.enable_http_proxy", 0),)
    # gRPC asks `no_proxy` even for a proxy that it was given, unless this one stands before it
    os.environ[_ASKED_FIRST] = "nobody.invalid"
    return (("grpc.http_proxy", _url(proxy)),)


def name_peer(host: str, port: int, proxy: Proxy | None) -> str:
    """Name what is dialled, for sentences."""
    place = target_of(host, port)
    return place if proxy is None else f"{place} (by the proxy {target_of(proxy.host, proxy.port)})"


async def dial(host: str, port: int, proxy: Proxy | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection as gRPC would; raise OSError."""
    if proxy is None:
        return await asyncio.open_connection(host, port)
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port, limit=_ANSWER_BYTES)
    target = target_of(host, port)
    writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{_who_asks(proxy)}\r\n".encode())
    with suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        answer = await reader.readuntil(b"\r\n\r\n")
        if answer.split(maxsplit=2)[1:2] == [_OK]:
            return reader, writer
    writer.close()
    raise ConnectionRefusedError(f"the proxy does not connect to {target}")


def _url(proxy: Proxy) -> str:
    who = f"{quote(proxy.user, safe='')}:{quote(proxy.password, safe='')}@" if proxy.user else ""
    return f"http://{who}{target_of(proxy.host, proxy.port)}"


def _who_asks(proxy: Proxy) -> str:
    letters = base64.b64encode(f"{proxy.user}:{proxy.password}".encode()).decode()
    return f"Proxy-Authorization: Basic {letters}\r\n" if proxy.user else ""
