"""Certificates of operators are issued, listed and revoked."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from coordinator.enrolment.operator_book import BOOK, RevokedOperators, read_operators
from coordinator.enrolment.operators import CERTIFICATE_FILE, KEY_FILE, create_operator, revoke_operator
from coordinator.enrolment.pki import create_pki, load_pki, write_leaves
from ravan.errors import ConfigError, ErrorReason, IdentityError, StateError
from ravan.identity.certificates import Caller, Rank, Role, read_caller

NOW = 1_790_000_000.0
YEAR = timedelta(days=365)


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    create_pki(tmp_path / "pki", ["hq.example"], now=NOW)
    return tmp_path / "pki"


def test_the_certificate_says_who_and_what(pki: Path, tmp_path: Path) -> None:
    record = create_operator(pki, "mia", Rank.VIEWER, life=timedelta(days=30), out=tmp_path / "mia", now=NOW)
    caller = read_caller((tmp_path / "mia" / CERTIFICATE_FILE).read_bytes())
    assert (caller.role, caller.name, caller.rank, caller.serial) == (Role.OPERATOR, "mia", Rank.VIEWER, record.serial)
    assert record.expires_at == NOW + 30 * 86_400
    assert (tmp_path / "mia" / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "mia").stat().st_mode & 0o777 == 0o700
    assert read_operators(pki)[1:] == (record,)


def test_the_administrator_of_init_has_every_right_and_stands_in_the_book(pki: Path) -> None:
    admin = read_caller((pki / "admin.crt").read_bytes())
    assert admin.rank is Rank.ADMIN
    (record,) = read_operators(pki)
    assert (record.name, record.rank, record.serial) == ("admin", Rank.ADMIN, admin.serial)
    assert record.expires_at == NOW + 365 * 86_400


def test_an_administrators_key_that_others_know_is_revoked_and_a_new_one_is_good(pki: Path) -> None:
    def admin() -> Caller:
        return read_caller((pki / "admin.crt").read_bytes())

    first, revoked, authority = admin(), RevokedOperators(pki), load_pki(pki).authority
    revoke_operator(pki, "admin", now=NOW + 1)
    write_leaves(pki, authority, ["hq.example"], NOW + 2)
    assert revoked.include(first)
    assert not revoked.include(admin())


def test_renewing_revokes_nobody(pki: Path) -> None:
    first = read_caller((pki / "admin.crt").read_bytes())
    write_leaves(pki, load_pki(pki).authority, ["hq.example"], NOW + 1)
    assert not RevokedOperators(pki).include(first)


def test_revoking_reaches_every_certificate_of_the_name_and_no_other(pki: Path, tmp_path: Path) -> None:
    revoked = RevokedOperators(pki)
    for number, (name, rank) in enumerate((("mia", Rank.VIEWER), ("mia", Rank.ADMIN), ("ken", Rank.OPERATOR))):
        create_operator(pki, name, rank, life=YEAR, out=tmp_path / str(number), now=NOW)
    callers = [read_caller((tmp_path / str(number) / CERTIFICATE_FILE).read_bytes()) for number in range(3)]
    admin = read_caller((pki / "admin.crt").read_bytes())
    assert not any(revoked.include(each) for each in (*callers, admin))
    assert len(revoke_operator(pki, "mia", now=NOW + 1)) == 2
    assert [revoked.include(each) for each in (*callers, admin)] == [True, True, False, False]
    with pytest.raises(StateError) as caught:
        revoke_operator(pki, "mia", now=NOW + 2)
    assert caught.value.reason is ErrorReason.NOT_FOUND
    assert [each.revoked_at for each in read_operators(pki)] == [None, NOW + 1, NOW + 1, None]


def test_a_folder_with_a_key_is_left_alone(pki: Path, tmp_path: Path) -> None:
    create_operator(pki, "mia", Rank.VIEWER, life=YEAR, out=tmp_path / "mia", now=NOW)
    before = (tmp_path / "mia" / KEY_FILE).read_bytes()
    with pytest.raises(StateError) as caught:
        create_operator(pki, "ken", Rank.ADMIN, life=YEAR, out=tmp_path / "mia", now=NOW)
    assert caught.value.reason is ErrorReason.ALREADY_EXISTS
    assert (tmp_path / "mia" / KEY_FILE).read_bytes() == before
    assert [each.name for each in read_operators(pki)] == ["admin", "mia"]


def test_a_bad_name_makes_nothing(pki: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        create_operator(pki, "Mia; rm -rf", Rank.VIEWER, life=YEAR, out=tmp_path / "mia", now=NOW)
    assert not (tmp_path / "mia").exists()
    assert [each.name for each in read_operators(pki)] == ["admin"]


@pytest.mark.parametrize("content", ["", "{}", "[1]", '[{"name": "mia"}]', "\0\xff", json.dumps([{"rank": "king"}])])
def test_a_damaged_book_lets_no_operator_in(pki: Path, content: str) -> None:
    (pki / BOOK).write_text(content)
    (pki / BOOK).chmod(0o600)
    with pytest.raises(IdentityError) as caught:
        RevokedOperators(pki).include(read_caller((pki / "admin.crt").read_bytes()))
    assert caught.value.reason is ErrorReason.MALFORMED
