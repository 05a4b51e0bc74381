"""Which certificate may follow which: whatever gets lost and whoever asks again, no honest site is locked out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.enrolment.succession import Issued, RenewalOutcome, good_until, judge_renewal, succeed
from coordinator.store.records import SiteRecord
from ravan.errors import ErrorReason, IdentityError
from ravan.ids import SiteId

LIFE, GRACE = 30.0, 90.0


def site(*, ends: float = LIFE, previous: str = "", previous_ends: float = 0.0) -> SiteRecord:
    return SiteRecord(
        name=SiteId("north"),
        identity_key=bytes(32),
        certificate_pem=b"pem",
        certificate_serial="a",
        certificate_expires_at=ends,
        enrolled_at=0.0,
        previous_serial=previous,
        previous_expires_at=previous_ends,
    )


def judge(record: SiteRecord, serial: str, now: float, *, holds_key: bool = False) -> RenewalOutcome | ErrorReason:
    try:
        return judge_renewal(record, serial, holds_key=holds_key, now=now, grace_s=GRACE)
    except IdentityError as error:
        return error.reason


@pytest.mark.parametrize(
    ("now", "outcome"),
    [
        (0.0, RenewalOutcome.RENEWED),
        (29.9, RenewalOutcome.RENEWED),
        (30.0, RenewalOutcome.RECOVERED),
        (119.9, RenewalOutcome.RECOVERED),
        (120.0, ErrorReason.IDENTITY_EXPIRED),
    ],
)
def test_a_certificate_is_renewed_until_the_grace_window_ends(
    now: float, outcome: RenewalOutcome | ErrorReason
) -> None:
    assert judge(site(), "a", now) is outcome


def test_revoked_and_forgotten_certificates_are_refused() -> None:
    revoked = replace(site(), revoked_at=1.0)
    assert judge(revoked, "a", 2.0) is ErrorReason.IDENTITY_REVOKED
    assert good_until(revoked) == {}
    assert judge(site(previous="z", previous_ends=10.0), "y", 2.0) is ErrorReason.IDENTITY_MISMATCH
    assert judge(site(), "", 2.0, holds_key=True) is ErrorReason.IDENTITY_MISMATCH


def test_asking_again_for_the_same_key_issues_nothing_new() -> None:
    renewed = site(previous="z", previous_ends=10.0)
    assert judge(renewed, "z", 5.0, holds_key=True) is RenewalOutcome.REPEATED
    assert judge(renewed, "z", 5.0) is RenewalOutcome.RENEWED
    # what was issued then has expired meanwhile and would help nobody
    assert judge(renewed, "z", 31.0, holds_key=True) is RenewalOutcome.RECOVERED
    # a site that keeps its key renews all the same
    assert judge(renewed, "a", 5.0, holds_key=True) is RenewalOutcome.RENEWED


@dataclass
class Fleet:
    """A register of one site, and the site, which may lose answers and its next key."""

    record: SiteRecord = field(default_factory=site)
    held: str = "a"
    key: str = "key-a"
    next_key: str = ""
    certified: str = "key-a"
    issued: int = 0
    now: float = 0.0

    def ask(self, *, answered: bool, key_kept: bool) -> RenewalOutcome:
        self.next_key = self.next_key or f"key-{self.issued}-{self.now}"
        outcome = judge(self.record, self.held, self.now, holds_key=self.certified == self.next_key)
        assert isinstance(outcome, RenewalOutcome)
        if outcome is not RenewalOutcome.REPEATED:
            self.issued += 1
            new = Issued(pem=b"pem", serial=f"s{self.issued}", expires_at=self.now + LIFE)
            self.record, self.certified = succeed(self.record, self.held, new), self.next_key
        if answered:
            self.held, self.key, self.next_key = self.record.certificate_serial, self.next_key, ""
        elif not key_kept:
            self.next_key = ""
        return outcome


@given(
    st.lists(
        st.tuples(st.floats(min_value=0.0, max_value=LIFE * 2), st.booleans(), st.booleans()),
        max_size=20,
    )
)
def test_a_site_that_comes_back_within_the_window_always_gets_a_certificate(
    steps: list[tuple[float, bool, bool]],
) -> None:
    fleet = Fleet()
    for pause, answered, key_kept in steps:
        fleet.now += pause
        fleet.ask(answered=answered, key_kept=key_kept)
        good = good_until(fleet.record)
        # at most two are ever good: the newest, and the one that the site asked with
        assert len(good) <= 2
        assert fleet.held in good
        if answered:
            assert fleet.certified == fleet.key
            assert good[fleet.held] > fleet.now


@given(st.floats(min_value=0.0, max_value=LIFE, exclude_max=True), st.booleans())
def test_work_over_the_older_certificate_goes_on_until_its_own_end(at: float, answered: bool) -> None:
    fleet = Fleet(now=at)
    fleet.ask(answered=answered, key_kept=True)
    assert good_until(fleet.record) == {"a": LIFE, "s1": at + LIFE}
