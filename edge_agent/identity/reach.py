"""How this PC gets to its coordinator: the addresses to try in turn, and the way out of the house."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from edge_agent.passwords import read_password
from ravan.errors import ErrorReason, RavanError
from ravan.identity.join import CoordinatorAddress
from ravan.way_out import DIRECT, Way, read_proxy, way_of_environment

if TYPE_CHECKING:
    from edge_agent.config import AgentTable

_ADDRESS: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/@\[\]]+)(?::([0-9]{1,5}))?(?::([0-9]{1,5}))?")
_LAST_PORT: Final = 65_535

_ELSEWHERE: Final = frozenset({ErrorReason.UNREACHABLE, ErrorReason.IDENTITY_MISMATCH})


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherAddress:
    """Where the coordinator is as well; ports that are 0 are the join string's."""

    host: str
    site_port: int = 0
    enrolment_port: int = 0

    def beside(self, own: CoordinatorAddress) -> CoordinatorAddress:
        """Return the whole address."""
        return CoordinatorAddress(
            host=self.host,
            enrolment_port=self.enrolment_port or own.enrolment_port,
            site_port=self.site_port or own.site_port,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How to get to the coordinator."""

    way: Way = DIRECT
    others: tuple[OtherAddress, ...] = ()

    def places(self, own: CoordinatorAddress) -> tuple[CoordinatorAddress, ...]:
        """Return the join string's address and the others, each once."""
        return tuple(dict.fromkeys((own, *(other.beside(own) for other in self.others))))


STRAIGHT: Final = Reach()


def read_address(text: str) -> OtherAddress:
    """Read `HOST`, `HOST:SITE_PORT` or `HOST:SITE_PORT:ENROLMENT_PORT`; raise ValueError."""
    parts = _ADDRESS.fullmatch(text)
    ports = [int(each) for each in parts.groups()[1:] if each is not None] if parts is not None else []
    if parts is None or not all(0 < port <= _LAST_PORT for port in ports):
        raise ValueError("an address looks like HOST, HOST:SITE_PORT or HOST:SITE_PORT:ENROLMENT_PORT")
    site_port, enrolment_port = (*ports, 0, 0)[:2]
    return OtherAddress(host=parts[1].strip("[]"), site_port=site_port, enrolment_port=enrolment_port)


def check_address(text: str) -> str:
    """Return what a configuration has for an address; raise ValueError."""
    read_address(text)
    return text


def reach_of(table: AgentTable, environment: Mapping[str, str]) -> Reach:
    """Return what the configuration says, and where it names no proxy, the environment; raise ConfigError."""
    others = tuple(map(read_address, table.coordinators))
    if not table.proxy:
        return Reach(way=way_of_environment(environment), others=others)
    password = read_password("[agent] proxy_password", table.proxy_password_file, table.proxy_password_variable)
    return Reach(way=Way(proxy=replace(read_proxy(table.proxy), password=password)), others=others)


def is_elsewhere(error: RavanError) -> bool:
    """Tell whether another address may do better: nobody was there, or somebody else."""
    return error.reason in _ELSEWHERE


def nowhere(failures: Sequence[RavanError]) -> RavanError:
    """Return one error for those of all addresses; the gravest of them says what to do."""
    gravest = next((each for each in failures if each.reason is not ErrorReason.UNREACHABLE), failures[0])
    sentences = dict.fromkeys(map(str, failures))
    return type(gravest)(" ".join(sentences), reason=gravest.reason, next_step=gravest.next_step)
