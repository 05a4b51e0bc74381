"""Why training stands aside, and when it goes on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from edge_agent.host.shifts import parse_shift
from edge_agent.host.verdict import HostTerms, PauseReason, Readings, find_pause

WEDNESDAY_NOON = datetime(2026, 11, 25, 12)
NIGHTS = (parse_shift("mon-fri 18:00-06:00"), parse_shift("sun 00:00-24:00"))


def readings(**shown: Any) -> Readings:
    return Readings(**{"moment": WEDNESDAY_NOON, **shown})


@pytest.mark.parametrize(
    ("terms", "shown", "reason"),
    [
        ({}, {"busy_share": 1.0, "celsius": 300.0}, None),
        ({}, {"on_battery": True}, PauseReason.BATTERY),
        ({"on_battery": True}, {"on_battery": True}, None),
        ({"shifts": NIGHTS}, {}, PauseReason.SHIFT),
        ({"shifts": NIGHTS}, {"moment": WEDNESDAY_NOON.replace(hour=23)}, None),
        ({"shifts": NIGHTS}, {"moment": WEDNESDAY_NOON.replace(day=29)}, None),
        ({"celsius": 90.0}, {"celsius": 90.0}, None),
        ({"celsius": 90.0}, {"celsius": 90.5}, PauseReason.HEAT),
        ({"celsius": 90.0}, {"celsius": None}, None),
        ({"busy_share": 0.5}, {"busy_share": 0.5}, None),
        ({"busy_share": 0.5}, {"busy_share": 0.51}, PauseReason.BUSY),
    ],
)
def test_reasons(terms: dict[str, Any], shown: dict[str, Any], reason: PauseReason | None) -> None:
    assert find_pause(HostTerms(**terms), readings(**shown)) is reason


@pytest.mark.parametrize(
    ("terms", "shown", "reason"),
    [
        ({"busy_share": 0.5}, {"busy_share": 0.45}, PauseReason.BUSY),
        ({"busy_share": 0.5}, {"busy_share": 0.39}, None),
        ({"celsius": 90.0}, {"celsius": 80.0}, PauseReason.HEAT),
        ({"celsius": 90.0}, {"celsius": 71.0}, None),
    ],
)
def test_a_pause_goes_on_until_there_is_relief(
    terms: dict[str, Any], shown: dict[str, Any], reason: PauseReason | None
) -> None:
    before = PauseReason.BUSY if "busy_share" in terms else PauseReason.HEAT
    assert find_pause(HostTerms(**terms), readings(**shown), before) is reason
    assert find_pause(HostTerms(**terms), readings(**shown), None) is None
