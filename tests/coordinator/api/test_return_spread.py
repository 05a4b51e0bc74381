"""Over how long sites are told to spread their return: by their number, within what they have before they are lost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from coordinator.api.membership import RETURNS_PER_S, MembershipDesk
from coordinator.fleet.presence import Patience


@pytest.mark.parametrize(
    ("certificates", "silence_s", "spread_s"),
    [(0, 15, 0.0), (5, 15, 5 / RETURNS_PER_S), (900, 15, 9.0), (4096, 15, 10.0)],
)
def test_the_spread_follows_the_fleet(certificates: int, silence_s: float, spread_s: float) -> None:
    registry = SimpleNamespace(good_certificates=certificates)
    fleet = SimpleNamespace(patience=Patience(heartbeat_interval_s=5, silence_s=silence_s))
    desk = MembershipDesk(cast(Any, registry), cast(Any, fleet), cast(Any, None))
    assert desk.return_spread_s() == pytest.approx(spread_s)
