"""Which handler a call gets: this process's own while it leads, else one that passes the call on to whoever does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import grpc

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Handlers = Mapping[str, Handler]
"""By full method name, such as `/ravan.wire.v1.SiteService/Watch`."""


class _Collector:
    """Stand where the generated code expects a server."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Leave the older way of registering alone."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Keep them."""
        self.handlers.update({f"/{service}/{name}": handler for name, handler in handlers.items()})


def handlers_of(add: Callable[[Any, Any], object], servicer: object) -> dict[str, Handler]:
    """Return a servicer's handlers; `add` is the generated `add_…Servicer_to_server`."""
    collector = _Collector()
    add(servicer, collector)
    return collector.handlers


class Switchboard(grpc.GenericRpcHandler):
    """All handlers of a process's ports; the ports' guards say which service is served where."""

    def __init__(self) -> None:
        """Serve nothing yet."""
        self.always: Handlers = {}
        """Whoever leads."""
        self.leading: Handlers = {}
        """While this process leads; empty otherwise."""
        self.following: Handlers = {}
        """While it does not."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """Return the handler for a call that comes now."""
        method = handler_call_details.method
        return self.always.get(method) or self.leading.get(method) or self.following.get(method)
