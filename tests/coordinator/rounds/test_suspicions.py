"""Who is believed when sites say that another's sealed shares do not open."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.rounds.suspicions import Suspicions, find_roster, most_liars
from ravan.ids import Digest, SiteId
from ravan.manifest.roster import Roster, RosterEntry


def roster(*members: int) -> Roster:
    entries = tuple(RosterEntry(index=i, mask_key=b"", channel_key=b"", signature=b"") for i in members)
    threshold = 2 * len(members) // 3 + 1
    return Roster(assignment_digest=Digest(bytes(32)), threshold=threshold, entries=entries, bundles=())


@given(st.lists(st.integers(0, 9)), st.integers(0, 4))
def test_as_many_different_sites_as_may_lie_do_not_convict_and_one_more_does(words: list[int], tolerated: int) -> None:
    suspicions = Suspicions()
    for said, accuser in enumerate(words, start=1):
        before = bool(suspicions.convicted)
        convicts = suspicions.accuse(SiteId(f"site-{accuser}"), SiteId("suspect"), tolerated=tolerated)
        assert convicts == (len(set(words[:said])) > tolerated and not before)
        assert suspicions.convicted == ({"suspect"} if len(set(words[:said])) > tolerated else set())


def test_words_against_different_sites_do_not_add_up() -> None:
    suspicions = Suspicions()
    assert not suspicions.accuse(SiteId("a"), SiteId("c"), tolerated=1)
    assert not suspicions.accuse(SiteId("b"), SiteId("d"), tolerated=1)


@pytest.mark.parametrize(
    ("accuser", "suspect", "found"), [(0, 1, 0), (5, 4, 1), (0, 4, None), (0, 0, None), (0, 9, None)]
)
def test_only_a_member_of_the_same_roster_can_have_had_shares(accuser: int, suspect: int, found: int | None) -> None:
    rosters = roster(0, 1, 2), roster(3, 4, 5)
    expected = None if found is None else rosters[found]
    assert find_roster(rosters, accuser, suspect) is expected


@pytest.mark.parametrize("n", range(3, 129))
def test_fewer_than_a_third_may_lie(n: int) -> None:
    most = most_liars(roster(*range(n)))
    assert 3 * most < n <= 3 * (most + 1)
