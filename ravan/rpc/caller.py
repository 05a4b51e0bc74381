"""Who calls, read from the certificate of the connection; requests never say it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from grpc import aio

from ravan.errors import ErrorReason, IdentityError
from ravan.identity.certificates import Caller, Role, read_caller
from ravan.ids import SiteId

# parsing takes longer than most heartbeats, and a connection shows the same bytes in each call
_read_caller = lru_cache(maxsize=1024)(read_caller)


def current_caller(context: aio.ServicerContext[Any, Any]) -> Caller:
    """Return who makes this call; raise IdentityError (PERMISSION_DENIED) without a client certificate."""
    for pem in context.auth_context().get("x509_pem_cert", ()):
        return _read_caller(bytes(pem))
    raise IdentityError(
        "This call needs a client certificate.",
        reason=ErrorReason.PERMISSION_DENIED,
        next_step="Enrol this PC first: `ravan-agent enroll JOIN_STRING --dir DIR`.",
    )


def calling_site(context: aio.ServicerContext[Any, Any]) -> SiteId:
    """Return the site that makes this call; raise IdentityError (PERMISSION_DENIED) for any other caller."""
    caller = current_caller(context)
    if caller.role is not Role.AGENT:
        raise IdentityError("Only a site may make this call.", reason=ErrorReason.PERMISSION_DENIED)
    return SiteId(caller.name)
