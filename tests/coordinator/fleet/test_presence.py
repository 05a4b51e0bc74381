"""The presence machine on a clock that only the test moves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.fleet.presence import Patience, Presence
from ravan.clock import ManualClock
from ravan.errors import ErrorReason, IdentityError
from ravan.ids import SiteId

SITE, OTHER = SiteId("plant-1"), SiteId("plant-2")
FIRST, SECOND = b"a" * 16, b"b" * 16
PATIENCE = Patience(heartbeat_interval_s=5, silence_s=15)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def presence() -> Presence:
    return Presence(PATIENCE)


def test_detached_site_is_lost_after_the_silence(presence: Presence, clock: ManualClock) -> None:
    stream = presence.attach(SITE, FIRST, clock.now())
    clock.advance(100)
    presence.hear(SITE, FIRST, clock.now())
    presence.detach(SITE, stream, clock.now())
    assert presence.connected() == ()
    clock.advance(14.9)
    assert presence.take_lost(clock.now()) == ()
    clock.advance(0.1)
    assert presence.next_deadline() == clock.now()
    assert presence.take_lost(clock.now()) == (SITE,)
    assert presence.process_of(SITE) is None
    assert presence.take_lost(clock.now()) == ()


def test_site_that_returns_in_time_is_not_lost(presence: Presence, clock: ManualClock) -> None:
    stream = presence.attach(SITE, FIRST, clock.now())
    presence.detach(SITE, stream, clock.now())
    clock.advance(10)
    presence.attach(SITE, FIRST, clock.now())
    clock.advance(10)
    assert presence.take_lost(clock.now()) == ()
    assert presence.connected() == (SITE,)


def test_connected_but_silent_site_is_lost_later(presence: Presence, clock: ManualClock) -> None:
    presence.attach(SITE, FIRST, clock.now())
    clock.advance(29.9)
    assert presence.take_lost(clock.now()) == ()
    clock.advance(0.1)
    assert presence.take_lost(clock.now()) == (SITE,)


def test_heartbeats_keep_a_site(presence: Presence, clock: ManualClock) -> None:
    presence.attach(SITE, FIRST, clock.now())
    presence.attach(OTHER, SECOND, clock.now())
    for _ in range(20):
        clock.advance(5)
        presence.hear(SITE, FIRST, clock.now())
    assert presence.take_lost(clock.now()) == (OTHER,)


def test_second_live_process_is_refused(presence: Presence, clock: ManualClock) -> None:
    presence.attach(SITE, FIRST, clock.now())
    with pytest.raises(IdentityError) as caught:
        presence.attach(SITE, SECOND, clock.now())
    assert caught.value.reason is ErrorReason.IDENTITY_IN_USE
    assert "plant-1" in str(caught.value)
    assert caught.value.next_step
    assert presence.process_of(SITE) == FIRST


def test_second_process_may_come_once_the_first_stream_ended(presence: Presence, clock: ManualClock) -> None:
    stream = presence.attach(SITE, FIRST, clock.now())
    presence.detach(SITE, stream, clock.now())
    presence.attach(SITE, SECOND, clock.now())
    assert presence.process_of(SITE) == SECOND


def test_second_process_may_come_once_the_first_is_silent(presence: Presence, clock: ManualClock) -> None:
    presence.attach(SITE, FIRST, clock.now())
    clock.advance(15)
    presence.attach(SITE, SECOND, clock.now())
    assert presence.process_of(SITE) == SECOND
    with pytest.raises(IdentityError):
        presence.hear(SITE, FIRST, clock.now())


def test_end_of_a_superseded_stream_changes_nothing(presence: Presence, clock: ManualClock) -> None:
    old = presence.attach(SITE, FIRST, clock.now())
    new = presence.attach(SITE, FIRST, clock.now())
    assert not presence.is_current(SITE, old)
    presence.detach(SITE, old, clock.now())
    assert presence.connected() == (SITE,)
    assert presence.is_current(SITE, new)


def test_removed_site_has_no_current_stream(presence: Presence, clock: ManualClock) -> None:
    stream = presence.attach(SITE, FIRST, clock.now())
    presence.remove(SITE)
    assert not presence.is_current(SITE, stream)
    assert presence.next_deadline() is None


def test_heartbeat_before_any_stream_counts_as_nothing(presence: Presence, clock: ManualClock) -> None:
    presence.hear(SITE, FIRST, clock.now())
    assert presence.connected() == ()


@given(
    st.lists(
        st.tuples(st.sampled_from(["attach", "detach", "hear", "lost"]), st.booleans(), st.floats(0, 40)), max_size=40
    )
)
def test_lost_sites_were_silent_and_connected_ones_were_not(steps: list[tuple[str, bool, float]]) -> None:
    presence, now, stream, heard = Presence(PATIENCE), 0.0, 0, 0.0
    for action, first, wait in steps:
        now += wait
        process = FIRST if first else SECOND
        try:
            if action == "attach":
                stream, heard = presence.attach(SITE, process, now), now
            elif action == "hear":
                presence.hear(SITE, process, now)
                heard = now if presence.process_of(SITE) == process else heard
        except IdentityError:
            assert presence.process_of(SITE) not in (None, process)
        if action == "detach":
            presence.detach(SITE, stream, now)
        if action == "lost":
            was_there = presence.process_of(SITE) is not None
            lost = presence.take_lost(now)
            assert not lost or was_there
            # heard after the stream ended counts for nothing: the stream is what instructions need
            assert lost or presence.connected() == () or now - heard < PATIENCE.connected_s
