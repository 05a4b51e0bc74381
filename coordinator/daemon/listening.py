"""The daemon's ports: who gets in, what counts against whose limits, and the certificates of now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from coordinator.config import CoordinatorFile, DataFolder, LimitsTable, server_files
from coordinator.enrolment.live_keys import LiveKeys
from coordinator.enrolment.pki import server_pair
from coordinator.metrics.catalog import Catalog
from coordinator.metrics.doors import Door, OpenDoor
from coordinator.metrics.mutual import MutualDoor
from ravan.identity.certificates import Caller
from ravan.rpc.admission import CallLimits
from ravan.rpc.guard import ENROLMENT_PORT, SITE_PORT, DenialHook, GuardPolicy
from ravan.rpc.server import Binding, bind_port, build_server
from ravan.rpc.tls import ServerShow, live_tls

Judge = Callable[[Caller], bool]


class Listeners:
    """The enrolment port's server, the site port's, and the HTTP port's door."""

    def __init__(
        self,
        config: CoordinatorFile,
        keys: LiveKeys,
        catalog: Catalog,
        *,
        is_revoked: Judge,
        is_expired: Judge,
        on_denial: DenialHook,
    ) -> None:
        """Build it in the event loop in which denials are noted."""
        self._server = config.server
        self._keys = keys
        self._catalog = catalog
        self._on_denial = on_denial
        self._server_files = server_pair(DataFolder(config.server.data_dir).pki, server_files(config))
        limits = config.limits
        self.relayed = GuardPolicy(
            access={**ENROLMENT_PORT, **SITE_PORT},
            is_revoked=is_revoked,
            is_expired=is_expired,
            limits=_call_limits(limits),
        )
        """For calls that another process has taken and counted."""
        enrolment, sites = (
            replace(
                self.relayed,
                access=access,
                message_bytes=message_kib << 10,
                on_call=catalog.note_call,
                on_refusal=catalog.note_refusal,
                on_denial=on_denial,
            )
            for access, message_kib in (
                (ENROLMENT_PORT, limits.enrolment_message_kib),
                (SITE_PORT, limits.site_message_kib),
            )
        )
        self.enrolment, self.sites = build_server(enrolment), build_server(sites)

    def bind(self) -> tuple[int, int]:
        """Bind both and return the ports: enrolment, sites; raise ResourceError PORT_IN_USE."""
        server = self._server
        enrolment = Binding(host=server.listen, port=server.enrolment_port, config_key="server.enrolment_port")
        sites = Binding(host=server.listen, port=server.site_port, config_key="server.site_port")
        # kept here, as gRPC only points to them
        self._tls, self._mutual = live_tls(self._shown_to_anyone), live_tls(self._shown_to_members)
        return bind_port(self.enrolment, enrolment, self._tls), bind_port(self.sites, sites, self._mutual)

    def http_door(self, now: Callable[[], float]) -> Door:
        """Return whom the HTTP port lets in; raise IdentityError where the certificate is no good for it."""
        if self._server.http_tls == "none":
            return OpenDoor(self._server.http_listen)
        loop = asyncio.get_running_loop()

        def note(caller: Caller, method: str) -> None:
            # Visitors are served in threads, which may outlive the loop by a moment.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._on_denial, caller, method)

        policy = GuardPolicy(
            access={},
            is_revoked=self.relayed.is_revoked,
            on_refusal=self._catalog.note_refusal,
            on_denial=note,
        )
        return MutualDoor(self._keys, self._server_files, policy, now)

    def _shown_to_anyone(self) -> ServerShow:
        pki = self._keys.current()
        return ServerShow(key=pki.server_key, certificate=pki.server_certificate)

    def _shown_to_members(self) -> ServerShow:
        return replace(self._shown_to_anyone(), client_authorities=self._keys.current().trusted_by_server)


def _call_limits(table: LimitsTable) -> CallLimits:
    return CallLimits(
        calls=table.calls,
        streams=table.streams,
        site_calls=table.site_calls,
        site_streams=table.site_streams,
        site_uploads=table.site_uploads,
        site_calls_per_s=table.site_calls_per_s,
        site_burst=table.site_burst,
        operator_uploads=table.operator_uploads,
    )
