"""What an agent says of its own release."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from edge_agent.session.outdated import say_whether_outdated
from ravan.manifest.instructions import Greeting


def said(version: str, minimum: str) -> list[str]:
    greeting = Greeting(heartbeat_interval_s=5, coordinator_time=0.0, minimum_agent_version=minimum)
    with capture_logs() as logs:
        say_whether_outdated(greeting, version)
    return [f"{entry['event']} {entry.get('next_step', '')}" for entry in logs]


def test_an_agent_that_is_held_back_says_what_to_install() -> None:
    (sentence,) = said("0.1.0", "0.2.0")
    assert sentence.startswith("Headquarters selects this PC for no round: its agent is 0.1.0, older than 0.2.0.")
    assert "Install ravan 0.2.0 or newer" in sentence


@pytest.mark.parametrize("minimum", ["", "0.1.0", "0.0.9"])
def test_an_agent_that_will_do_says_nothing(minimum: str) -> None:
    assert said("0.1.0", minimum) == []


def test_a_minimum_that_is_no_version_does_no_harm() -> None:
    (sentence,) = said("0.1.0", "newest")
    assert sentence.startswith("the coordinator asks for an agent's version that is none")
