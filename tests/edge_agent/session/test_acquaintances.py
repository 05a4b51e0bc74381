"""Which sites are newcomers, which are refused, and what of it outlives the process."""

from __future__ import annotations

import json
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.session.acquaintance_file import AcquaintanceFile
from edge_agent.session.acquaintances import Acquaintance, Acquaintances
from ravan.errors import ErrorReason, IdentityError, StateError
from ravan.ids import SiteId
from ravan.manifest.assignment import Member

NOW = 1_700_000_000.0


def member(name: str, key: int) -> Member:
    return Member(index=0, site=SiteId(name), identity_key=bytes([key]) * 32, tiles=())


def keys(known: Acquaintances) -> dict[str, bytes]:
    return {each.site: each.identity_key for each in known}


NORTH, WEST, SOUTH = member("north", 1), member("west", 2), member("south", 3)


@pytest.fixture
def file(tmp_path: Path) -> AcquaintanceFile:
    return AcquaintanceFile(tmp_path)


def test_everybody_is_new_at_first_and_known_afterwards() -> None:
    nobody = Acquaintances()
    assert nobody.check((NORTH, WEST)) == (NORTH, WEST)
    known = nobody.meet((NORTH, WEST), NOW)
    assert known.check((NORTH, WEST)) == ()
    assert known.check((WEST, SOUTH)) == (SOUTH,)
    assert len(nobody) == 0


def test_another_key_is_refused_by_name_with_what_to_do() -> None:
    known = Acquaintances().meet((NORTH, WEST, SOUTH), NOW)
    with pytest.raises(IdentityError, match="'south', 'west'") as raised:
        known.check((member("south", 9), NORTH, member("west", 8)))
    assert raised.value.reason is ErrorReason.IDENTITY_MISMATCH
    assert "'north'" not in str(raised.value)
    assert "`ravan-agent site forget NAME`" in raised.value.next_step


def test_a_newcomer_with_two_keys_is_refused() -> None:
    with pytest.raises(IdentityError, match="'west'"):
        Acquaintances().check((NORTH, WEST, member("west", 9)))


def test_a_forgotten_site_is_a_newcomer_with_any_key() -> None:
    forgotten, others = Acquaintances().meet((NORTH, WEST), NOW).forget(WEST.site)
    assert forgotten == Acquaintance(site=WEST.site, identity_key=WEST.identity_key, first_seen=NOW)
    changed = member("west", 9)
    assert others.check((NORTH, changed)) == (changed,)
    with pytest.raises(StateError, match="west") as raised:
        others.forget(WEST.site)
    assert raised.value.reason is ErrorReason.NOT_FOUND


@given(st.lists(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 2)), max_size=4), max_size=8))
def test_no_order_of_rounds_changes_a_key(rounds: list[list[tuple[str, int]]]) -> None:
    known, first = Acquaintances(), dict[str, int]()
    for pairs in rounds:
        expected = dict(first)
        fits = all(expected.setdefault(name, key) == key for name, key in pairs)
        try:
            known = known.meet(known.check([member(name, key) for name, key in pairs]), NOW)
        except IdentityError:
            assert not fits
        else:
            assert fits
            first = expected
        assert keys(known) == {name: bytes([key]) * 32 for name, key in first.items()}


def test_the_file_outlives_the_process_and_is_its_owner_s(file: AcquaintanceFile, tmp_path: Path) -> None:
    assert file.meet((NORTH, WEST), NOW).first
    again = AcquaintanceFile(tmp_path)
    later = again.meet((NORTH, WEST, SOUTH), NOW + 60)
    assert not later.first
    assert [each.site for each in later.newcomers] == ["south"]
    assert {each.site: each.first_seen for each in again.read()} == {"north": NOW, "south": NOW + 60, "west": NOW}
    assert stat.S_IMODE((tmp_path / "known_sites.json").stat().st_mode) == 0o600


def test_a_refused_assignment_makes_nobody_known(file: AcquaintanceFile, tmp_path: Path) -> None:
    file.meet((NORTH,), NOW)
    before = (tmp_path / "known_sites.json").read_bytes()
    with pytest.raises(IdentityError):
        file.meet((member("north", 9), WEST), NOW)
    assert (tmp_path / "known_sites.json").read_bytes() == before


def test_forgetting_in_another_process_counts_at_the_next_assignment(file: AcquaintanceFile, tmp_path: Path) -> None:
    file.meet((NORTH, WEST), NOW)
    assert AcquaintanceFile(tmp_path).forget(WEST.site).identity_key == WEST.identity_key
    changed = member("west", 9)
    assert [each.site for each in file.meet((NORTH, changed), NOW).newcomers] == ["west"]
    assert keys(file.read()) == {"north": NORTH.identity_key, "west": changed.identity_key}


def test_writers_at_the_same_time_lose_nothing(file: AcquaintanceFile, tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def meet(number: int) -> None:
        together.wait()
        AcquaintanceFile(tmp_path).meet((member(f"site-{number}", number),), NOW)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(meet, range(8)))
    assert len(file.read()) == 8


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "[1]",
        '{"north": 1}',
        '{"north": {}}',
        json.dumps({"north": {"identity_key": "00" * 31, "first_seen": "2023-11-14T22:13:20+00:00"}}),
        json.dumps({"north": {"identity_key": "zz" * 32, "first_seen": "2023-11-14T22:13:20+00:00"}}),
        json.dumps({"north": {"identity_key": "00" * 32, "first_seen": "yesterday"}}),
    ],
)
def test_a_damaged_file_is_not_taken_for_an_empty_one(file: AcquaintanceFile, tmp_path: Path, content: str) -> None:
    path = tmp_path / "known_sites.json"
    path.write_text(content)
    with pytest.raises(IdentityError, match=r"known_sites\.json"):
        file.meet((NORTH,), NOW)
    assert path.read_text() == content
