"""The table `[tracing]` of a configuration file: off unless it names a collector."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel

from ravan.configuration import STRICT

COLLECTOR_PORT: Final = 4317
"""Of OTLP over gRPC, where the address names none."""


def check_collector(url: str) -> str:
    """Return the address of a collector; raise ValueError for one that spans may not be sent to."""
    if not url:
        return url
    try:
        parts, port = urlsplit(url), urlsplit(url).port
    except ValueError:
        parts, port = SplitResult("", "", "", "", ""), None
    plain = parts.path in ("", "/") and not (parts.query or parts.fragment or "@" in parts.netloc)
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain or port == 0:
        raise ValueError("a collector's address is https://HOST:PORT, or http://HOST:PORT on this machine")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError("only a collector on this machine is called without TLS; use https://HOST:PORT")
    return url


class TracingTable(BaseModel):
    """Where the traces of rounds go."""

    model_config = STRICT

    endpoint: Annotated[str, AfterValidator(check_collector)] = ""
    """Address of an OTLP collector (gRPC): https://HOST:PORT, or http:// on this machine; empty: nothing is traced."""
    ca_file: str = ""
    """Authority of the collector's certificate, PEM; relative to the configuration file, empty for the system's."""

    def beside(self, home: Path) -> TracingTable:
        """Return the same with a path that is absolute, a relative one being meant from a folder."""
        return self.model_copy(update={"ca_file": str(home / self.ca_file)}) if self.ca_file else self

    @property
    def address(self) -> tuple[str, int]:
        """Return host and port of the collector."""
        parts = urlsplit(self.endpoint)
        return parts.hostname or "", parts.port or COLLECTOR_PORT

    @property
    def encrypted(self) -> bool:
        """Tell whether the collector is called with TLS."""
        return self.endpoint.startswith("https:")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
