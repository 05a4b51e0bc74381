"""How this PC gets to its coordinator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from edge_agent.passwords import read_password
from ravan.way_out import DIRECT, Way, read_proxy, way_of_environment

if TYPE_CHECKING:
    from edge_agent.config import AgentTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How to get to the coordinator."""

    way: Way = DIRECT


STRAIGHT: Final = Reach()


def reach_of(table: AgentTable, environment: Mapping[str, str]) -> Reach:
    """Return what the configuration says, and where it names no proxy, the environment; raise ConfigError."""
    if not table.proxy:
        return Reach(way=way_of_environment(environment))
    password = read_password("[agent] proxy_password", table.proxy_password_file, table.proxy_password_variable)
    return Reach(way=Way(proxy=replace(read_proxy(table.proxy), password=password)))
