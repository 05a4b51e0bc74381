"""The commands around authorities and membership, from the outside: what they ask, print and leave behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from scripted_headquarters import enrol_by_hand

from coordinator.cli import cli as coordinator_cli
from coordinator.enrolment.pki import load_pki
from edge_agent.cli import cli as agent_cli
from edge_agent.identity.keystore import is_enrolled
from ravan.errors import ErrorReason, StateError
from ravan.identity.handover import decode_hand_over
from ravan.identity.keys import public_info


@pytest.fixture
def hq(tmp_path: Path) -> Path:
    assert not coordinator(["init", str(tmp_path / "hq"), "--host", "localhost"]).exception
    return tmp_path / "hq"


def coordinator(arguments: list[str]) -> Result:
    return CliRunner().invoke(coordinator_cli, arguments)


def agent(arguments: list[str], answer: str = "") -> Result:
    return CliRunner().invoke(agent_cli, arguments, input=answer)


def test_the_three_steps_come_in_their_order(hq: Path) -> None:
    config = ["--config", str(hq / "coordinator.toml")]
    first = load_pki(hq / "pki").authority.certificate
    for early in ("switch", "retire"):
        error = coordinator(["ca", early, *config]).exception
        assert isinstance(error, StateError)
        assert error.reason is ErrorReason.WRONG_STATE
    printed = coordinator(["ca", "roll", *config]).stdout.strip().splitlines()[0]
    named = decode_hand_over(printed).authority
    assert isinstance(coordinator(["ca", "roll", *config]).exception, StateError)
    assert not coordinator(["ca", "switch", *config]).exception
    assert load_pki(hq / "pki").authority.certificate == named
    assert not coordinator(["ca", "retire", *config]).exception
    assert load_pki(hq / "pki").trusted_by_server == load_pki(hq / "pki").ca_pem
    assert public_info(named.public_key()) != public_info(first.public_key())


def test_renewing_keeps_the_authority(hq: Path) -> None:
    before = load_pki(hq / "pki")
    assert not coordinator(["ca", "renew", "--config", str(hq / "coordinator.toml")]).exception
    after = load_pki(hq / "pki")
    assert after.ca_pem == before.ca_pem
    assert after.server_certificate != before.server_certificate


def test_who_revokes_the_administrator_is_told_how_to_go_on(hq: Path) -> None:
    result = coordinator(["operator", "revoke", "admin", "--config", str(hq / "coordinator.toml")])
    assert not result.exception
    assert "Revoked 1 of admin." in result.output
    assert "A new one: ravan-coordinator ca renew" in result.output


def test_an_own_authority_needs_both_files(tmp_path: Path) -> None:
    result = coordinator(["init", str(tmp_path / "x"), "--host", "localhost", "--ca-key", "nothing.pem"])
    assert result.exit_code == 2
    assert "go together" in result.output
    assert not (tmp_path / "x").exists()


def test_leaving_asks_first_and_can_do_without_headquarters(hq: Path, tmp_path: Path) -> None:
    config = ["--config", str(enrol_by_hand(load_pki(hq / "pki"), 1, tmp_path / "pc"))]
    assert agent(["leave", *config], answer="n\n").exit_code != 0
    assert is_enrolled(tmp_path / "pc" / "identity")
    result = agent(["leave", *config, "--yes", "--without-coordinator"])
    assert "site revoke site-0" in result.output
    assert not is_enrolled(tmp_path / "pc" / "identity")
    assert not list((tmp_path / "pc" / "identity").glob("*.key"))
