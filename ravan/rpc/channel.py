"""Client channels: keepalive, quick reconnects, and retries of small calls that may safely be repeated."""

from __future__ import annotations

import json
from typing import Final

import grpc
from grpc import aio

from ravan.rpc.addresses import target_of
from ravan.rpc.keepalive import CHANNEL_OPTIONS
from ravan.rpc.proxy import channel_options
from ravan.way_out import Proxy

REPEATABLE: Final[dict[str, tuple[str, ...]]] = {
    "ravan.wire.v1.EnrolmentService": ("Enrol", "BeginRenewal"),
    "ravan.wire.v1.SiteService": (
        "Heartbeat",
        "ReportHardware",
        "ReportJobProfile",
        "SubmitSecureAggregation",
        "LeaveRound",
        "Renew",
    ),
    "ravan.wire.v1.TransferService": ("GetUploadStatus",),
    "ravan.wire.v1.OperatorService": (
        "CreateToken",
        "ListSites",
        "RevokeSite",
        "EndorseSite",
        "AddModel",
        "ListModels",
        "SubmitJob",
        "ListJobs",
        "GetJob",
        "PauseJob",
        "ResumeJob",
        "StopJob",
    ),
}
"""Unary calls whose repetition changes nothing; those of operators that change something carry a request id for it."""

_RETRY_POLICY: Final = {
    "maxAttempts": 4,
    "initialBackoff": "0.2s",
    "maxBackoff": "3s",
    "backoffMultiplier": 3,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


def service_config() -> str:
    """Return the gRPC service configuration, JSON."""
    names = [{"service": service, "method": method} for service, methods in REPEATABLE.items() for method in methods]
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": _RETRY_POLICY}]})


def open_channel(
    host: str, port: int, credentials: grpc.ChannelCredentials, proxy: Proxy | None = None, *, repeats: bool = True
) -> aio.Channel:
    """Open a channel; it connects at its first call and reconnects by itself. The caller closes it.

    Without `repeats` it repeats no call, for a caller who does so at moments of its own choice.
    """
    options = (
        *CHANNEL_OPTIONS,
        *channel_options(proxy),
        ("grpc.service_config", service_config()),
        ("grpc.enable_retries", int(repeats)),
        # a call whose messages exceed the buffer is silently never retried
        ("grpc.per_rpc_retry_buffer_size", 4 << 20),
        ("grpc.initial_reconnect_backoff_ms", 500),
        ("grpc.max_reconnect_backoff_ms", 30_000),
    )
    return aio.secure_channel(target_of(host, port), credentials, options=options)
