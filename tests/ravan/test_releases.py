"""The order of versions, checked against the packages' own library, and texts that are none."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from ravan.releases import checked_release, is_older, parse_release
from ravan.version import VERSION

_NUMBERS = st.lists(st.integers(0, 12), min_size=1, max_size=4).map(lambda numbers: ".".join(map(str, numbers)))
_STAGES = st.sampled_from(["", "a0", "a1", "b2", "rc1", "rc10"])
_VERSIONS = st.builds(
    "{}{}{}{}".format,
    _NUMBERS,
    _STAGES,
    st.sampled_from(["", ".post0", ".post3"]),
    st.sampled_from(["", ".dev0", ".dev7"]),
)


@given(_VERSIONS, _VERSIONS)
def test_the_order_is_that_of_python_s_packages(one: str, other: str) -> None:
    first, second = parse_release(one), parse_release(other)
    assert first is not None
    assert second is not None
    assert (first < second) == (Version(one) < Version(other))
    assert (first == second) == (Version(one) == Version(other))


def test_a_ladder_of_releases() -> None:
    ladder = ["0.9", "0.10.dev1", "0.10a1", "0.10rc2.dev1", "0.10rc2", "0.10", "0.10.post1", "0.10.1", "1.0", "10"]
    for older, newer in itertools.pairwise(ladder):
        assert is_older(older, newer)
        assert not is_older(newer, older)


@pytest.mark.parametrize(("version", "minimum"), [("1.2", "1.2.0"), ("1.2.0+cpu.1", "1.2"), ("0", "0.0.0"), ("x", "")])
def test_these_are_not_older(version: str, minimum: str) -> None:
    assert not is_older(version, minimum)


NO_VERSIONS = ["", "x", "1.", ".1", "v1.0", "1.0 ", "1.0\n", "1..0", "-1", "1.0rc", "1.0-1", "1.0+", "٣.٠", "1" * 50]


@pytest.mark.parametrize("text", NO_VERSIONS)
def test_what_tells_no_version_is_older_than_any(text: str) -> None:
    assert parse_release(text) is None
    assert is_older(text, "0.0.1")


@pytest.mark.parametrize("text", [text for text in NO_VERSIONS if text])
def test_a_minimum_that_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no version"):
        is_older(VERSION, text)
    with pytest.raises(ValueError, match="is no version"):
        checked_release(text)


@given(st.text(max_size=30))
def test_no_text_is_more_than_this_bears(text: str) -> None:
    is_older(text, VERSION)


def test_this_release_knows_itself() -> None:
    assert checked_release(VERSION) == VERSION
    assert not is_older(VERSION, VERSION)
