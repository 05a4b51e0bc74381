"""Addresses of the coordinator: how they are written, and which one comes next."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config import AgentTable, load_config
from edge_agent.identity.reach import OtherAddress, Reach, nowhere, reach_of, read_address
from edge_agent.session.rota import Rota
from ravan.errors import ConfigError, ErrorReason, IdentityError, RavanError, ResourceError
from ravan.identity.join import CoordinatorAddress
from ravan.way_out import DIRECT

OWN = CoordinatorAddress(host="hq-a", enrolment_port=8440, site_port=8443)
SECOND = CoordinatorAddress(host="hq-b", enrolment_port=8440, site_port=8443)
THIRD = CoordinatorAddress(host="hq-c", enrolment_port=1, site_port=2)
PLACES = (OWN, SECOND, THIRD)


def away(name: str) -> RavanError:
    return ResourceError(f"{name} is away.", reason=ErrorReason.UNREACHABLE, next_step=f"Look after {name}.")


STRANGER = IdentityError("b is somebody else.", reason=ErrorReason.IDENTITY_MISMATCH, next_step="Beware.")
REVOKED = IdentityError("Go.", reason=ErrorReason.IDENTITY_REVOKED)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hq-b", OtherAddress(host="hq-b")),
        ("hq-b:9443", OtherAddress(host="hq-b", site_port=9443)),
        ("10.0.0.7:9443:9440", OtherAddress(host="10.0.0.7", site_port=9443, enrolment_port=9440)),
        ("[fd00::1]", OtherAddress(host="fd00::1")),
        ("[fd00::1]:9443", OtherAddress(host="fd00::1", site_port=9443)),
    ],
)
def test_addresses(text: str, address: OtherAddress) -> None:
    assert read_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["", ":8443", "hq:", "hq:0", "hq:65536", "hq:x", "hq:1:2:3", "https://hq", "a@hq", "hq 1", "fd00::1", "[hq]:1"],
)
def test_what_is_no_address_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="HOST:SITE_PORT"):
        read_address(text)
    path = tmp_path / "agent.toml"
    path.write_text(f"[agent]\ncoordinators = ['hq', '{text}']\n")
    with pytest.raises(ConfigError, match=r"agent.coordinators.1`: an address looks like"):
        load_config(path, {})


@given(text=st.text())
def test_any_text_gives_an_address_or_a_refusal(text: str) -> None:
    with suppress(ValueError):
        assert read_address(text).host


def test_ports_that_are_not_said_are_the_join_string_s() -> None:
    table = AgentTable(coordinators=("hq-b", "hq-c:2:1", "hq-a"))
    assert reach_of(table, {}).places(OWN) == PLACES
    assert reach_of(AgentTable(), {}) == Reach(way=DIRECT)


def test_each_is_tried_before_anything_is_said() -> None:
    rota = Rota(PLACES)
    for name, place in (("a", OWN), ("b", SECOND)):
        assert rota.place == place
        assert rota.failed(away(name)) is None
    error = rota.failed(away("c"))
    assert str(error) == "a is away. b is away. c is away."
    assert rota.place == OWN
    assert rota.failed(away("a")) is None


def test_the_gravest_failure_says_what_to_do() -> None:
    error = nowhere([away("a"), STRANGER, away("c")])
    assert isinstance(error, IdentityError)
    assert (error.reason, error.next_step) == (STRANGER.reason, "Beware.")
    assert str(error) == "a is away. b is somebody else. c is away."


def test_a_refusal_is_said_at_once_and_changes_no_address() -> None:
    rota = Rota(PLACES)
    assert rota.failed(away("a")) is None
    assert rota.failed(REVOKED) is REVOKED
    assert rota.place == SECOND


def test_the_one_that_worked_comes_first_after_a_restart(tmp_path: Path) -> None:
    memory = tmp_path / "coordinator"
    rota = Rota(PLACES, memory)
    rota.failed(away("a"))
    rota.worked()
    assert Rota(PLACES, memory).place == SECOND
    assert Rota((OWN, THIRD), memory).place == OWN
    rota.failed(away("b"))
    rota.failed(away("c"))
    rota.worked()
    assert Rota(PLACES, memory).place == OWN


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"hq-z:1\n", b"x" * 100_000])
def test_a_memory_that_cannot_be_used_is_none(tmp_path: Path, content: bytes) -> None:
    memory = tmp_path / "coordinator"
    memory.write_bytes(content)
    assert Rota(PLACES, memory).place == OWN


def test_a_memory_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    rota = Rota(PLACES, tmp_path / "nowhere" / "coordinator")
    rota.failed(away("a"))
    rota.worked()
    assert rota.place == SECOND
