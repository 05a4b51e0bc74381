"""Whether headquarters still selects an agent of this release."""

from __future__ import annotations

import structlog

from ravan.manifest.instructions import Greeting
from ravan.releases import is_older
from ravan.version import VERSION

log = structlog.stdlib.get_logger(__name__)


def say_whether_outdated(greeting: Greeting, version: str = VERSION) -> None:
    """Tell the site's people when it is held back; a minimum that is no version is not theirs to mend."""
    minimum = greeting.minimum_agent_version
    try:
        outdated = is_older(version, minimum)
    except ValueError:
        log.warning("the coordinator asks for an agent's version that is none", minimum=minimum)
        return
    if outdated:
        log.warning(
            f"Headquarters selects this PC for no round: its agent is {version}, older than {minimum}.",
            next_step=f"Install ravan {minimum} or newer and start the agent again; nothing else is lost.",
        )
