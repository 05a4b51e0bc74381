"""Why the coordinator does not let this PC in, as far as looking and asking tells."""

from __future__ import annotations

import time

from edge_agent.identity.keystore import Identity
from edge_agent.identity.reach import Reach, is_elsewhere
from edge_agent.identity.recovery import ask_time
from ravan.errors import RavanError
from ravan.identity.certificates import is_good_at, load_certificate
from ravan.identity.join import CoordinatorAddress
from ravan.rpc.clock_faults import clocks_differ
from ravan.rpc.handshake import look
from ravan.way_out import Way


async def diagnose(error: RavanError, identity: Identity, place: CoordinatorAddress, way: Way) -> RavanError:
    """Return a better error than one of a failed connection to the site port, where there is one."""
    if not is_elsewhere(error):
        return error
    sight = await look(place.host, place.site_port, identity.ca_certificate, way.to(place.host))
    if sight.is_proven:
        return await _find_clock_fault(identity, place, way) or error
    return sight.fault or error


async def _find_clock_fault(identity: Identity, place: CoordinatorAddress, way: Way) -> RavanError | None:
    """Ask what time it is where the coordinator answers and lets this PC in no further."""
    try:
        theirs = await ask_time(place, Reach(way=way), identity.ca_certificate)
    except RavanError:
        return None
    certificate, own = load_certificate(identity.certificate), time.time()
    is_cause = bool(theirs) and is_good_at(certificate, own) and not is_good_at(certificate, theirs)
    return clocks_differ(own, theirs) if is_cause else None
