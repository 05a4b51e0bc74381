"""What is said of clocks that cannot both be right. Pure."""

from __future__ import annotations

import time
from typing import Final

from cryptography import x509

from ravan.errors import ErrorReason, IdentityError

TOLERANCE_S: Final = 60.0

_REMEDY: Final = (
    "Set this PC's clock, date and time zone, best by time synchronisation"
    " (Linux: `timedatectl set-ntp true`, Windows: `w32tm /resync`)."
)


def clocks_differ(own: float, coordinators: float) -> IdentityError | None:
    """Return the fault when the clocks of this PC and of the coordinator are more than a minute apart."""
    ahead_s = own - coordinators
    if abs(ahead_s) <= TOLERANCE_S:
        return None
    side = "ahead" if ahead_s > 0 else "behind"
    return _fault(
        f"This PC's clock shows {_moment(own)}, the coordinator's {_moment(coordinators)}:"
        f" this PC is {_duration(abs(ahead_s))} {side}.",
        f"{_REMEDY} If it is right, tell HQ.",
    )


def certificate_out_of_time(
    address: str, certificate: x509.Certificate, authority: x509.Certificate, now: float
) -> IdentityError | None:
    """Return the fault when by this PC's clock a peer's certificate, or its authority's, is not good now."""
    begins = max(each.not_valid_before_utc.timestamp() for each in (certificate, authority))
    ends = min(each.not_valid_after_utc.timestamp() for each in (certificate, authority))
    if now < begins:
        said = f"only from {_moment(begins)} on: this PC's clock is behind"
        return _fault(_compare(now, address, said), _REMEDY)
    if now > ends:
        said = f"only until {_moment(ends)}: this PC's clock is ahead, or HQ has not renewed it"
        return _fault(
            _compare(now, address, said), f"{_REMEDY} If it is right, HQ has to run `ravan-coordinator ca renew`."
        )
    return None


def _compare(now: float, address: str, said: str) -> str:
    return f"This PC's clock shows {_moment(now)}, but the certificate of {address} is good {said}."


def _fault(sentence: str, next_step: str) -> IdentityError:
    return IdentityError(sentence, reason=ErrorReason.IDENTITY_MISMATCH, next_step=next_step)


def _moment(at: float) -> str:
    """Write a time as people compare it; any number is some time."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
    except (ValueError, OverflowError, OSError):
        return f"{at:.0f} seconds since 1970"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    hours, days = minutes // 60, minutes // 1440
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
