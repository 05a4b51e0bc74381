"""Who may see which page of the HTTP port: how a connection is received, and whom each page is shown to."""

from __future__ import annotations

import ipaddress
import socket
from enum import StrEnum
from typing import Final, Protocol

from ravan.errors import ErrorReason, IdentityError

LOOPBACK_NAMES: Final = frozenset({"localhost", "localhost.localdomain"})


class Page(StrEnum):
    """What the port shows; the values are the names by which `ravan.rpc.ranks` knows them."""

    HEALTH = "GetHealth"
    METRICS = "GetMetrics"
    STATUS = "GetStatus"
    """Whatever is for people."""


class Door(Protocol):
    """How the port lets visitors in; called in a thread of each connection."""

    def receive(self, connection: socket.socket) -> socket.socket:
        """Return the connection as it is to be spoken over; raise OSError where there is to be none."""
        ...

    def admit(self, connection: socket.socket, page: Page) -> None:
        """Raise IdentityError where whoever is at the other end may not see the page."""
        ...


class OpenDoor:
    """Plain connections: health and metrics for everyone, the rest where only this machine can connect."""

    def __init__(self, host: str) -> None:
        """Judge by the address that is listened on."""
        self._is_local = host.lower() in LOOPBACK_NAMES or _is_loopback(host)

    def receive(self, connection: socket.socket) -> socket.socket:
        """Take it as it comes."""
        return connection

    def admit(self, connection: socket.socket, page: Page) -> None:  # noqa: ARG002 - one visitor is as good as another
        """Keep what is for people from other machines."""
        if page is Page.STATUS and not self._is_local:
            raise IdentityError(
                "Beyond loopback only metrics and health are shown.",
                reason=ErrorReason.PERMISSION_DENIED,
                next_step='For /status set `server.http_tls` to "mutual", or `server.http_listen` to 127.0.0.1.',
            )


def is_address(text: str) -> bool:
    """Tell whether this is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_loopback(text: str) -> bool:
    return is_address(text) and ipaddress.ip_address(text).is_loopback
