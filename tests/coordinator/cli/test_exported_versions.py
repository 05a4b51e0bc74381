"""Which version `export` writes, and what it says of it."""

from __future__ import annotations

import pytest

from coordinator.cli.exports import _find_version, _last_versions, _lineage
from ravan.errors import ErrorReason, StateError
from ravan.wire.v1 import operator_service_pb2 as wire

JOB = wire.Job(
    name="orders",
    state_digest=b"3" * 32,
    accuracy=0.6,
    rounds=[
        wire.Round(number=1, state_digest=b"1" * 32, accuracy=0.7),
        wire.Round(number=2, accuracy=0.2),
        wire.Round(number=3, state_digest=b"3" * 32, accuracy=0.6),
    ],
)


def test_without_a_round_it_is_the_newest() -> None:
    assert _find_version(JOB, None).state_digest == b"3" * 32
    assert (_lineage(JOB, None).rounds, _lineage(JOB, None).accuracy) == (2, 0.6)


def test_a_round_s_version_comes_with_its_own_figures() -> None:
    assert _find_version(JOB, 1).state_digest == b"1" * 32
    assert (_lineage(JOB, 1).rounds, _lineage(JOB, 1).accuracy) == (1, 0.7)


@pytest.mark.parametrize("number", [2, 4])
def test_a_round_that_made_none_is_named(number: int) -> None:
    with pytest.raises(StateError, match=f"Round {number} of orders made no version") as caught:
        _find_version(JOB, number)
    assert caught.value.reason is ErrorReason.NOT_FOUND
    assert "job show orders" in caught.value.next_step


def test_the_last_versions_leave_out_rounds_that_made_none() -> None:
    assert _last_versions(JOB, None, 2) == [b"1" * 32, b"3" * 32]
    assert _last_versions(JOB, None, 1) == [b"3" * 32]
    assert _last_versions(JOB, 1, 1) == [b"1" * 32]


@pytest.mark.parametrize(("number", "count", "left"), [(None, 3, 2), (1, 2, 1)])
def test_fewer_versions_than_wanted_are_refused_with_a_number_that_would_do(
    number: int | None, count: int, left: int
) -> None:
    with pytest.raises(StateError, match=f"has made {left} versions so far") as caught:
        _last_versions(JOB, number, count)
    assert f"--average {left} or less" in caught.value.next_step
