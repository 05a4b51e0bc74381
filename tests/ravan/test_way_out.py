"""Proxies as configurations and environments name them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravan.rpc.proxy import name_peer
from ravan.way_out import DIRECT, Proxy, Way, check_proxy, read_proxy, way_of_environment

PROXY = Proxy(host="px", port=3128)


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://px:3128", PROXY),
        ("http://px:3128/", PROXY),
        ("http://[::1]:8080", Proxy(host="::1", port=8080)),
        ("http://plant%40corp@px:3128", Proxy(host="px", port=3128, user="plant@corp")),
        ("http://u:p%3A%2F@px:3128", Proxy(host="px", port=3128, user="u", password="p:/")),  # noqa: S106
    ],
)
def test_addresses(text: str, proxy: Proxy) -> None:
    assert read_proxy(text) == proxy


@pytest.mark.parametrize(
    "text",
    [
        "",
        "px",
        "px:3128",
        "http://px",
        "http://:3128",
        "http://px:0",
        "http://px:99999",
        "http://px:port",
        "https://px:3128",
        "socks5://px:1080",
        "http://px:3128/path",
        "http://px:3128?x",
        "http://[::1:3128",
    ],
)
def test_what_is_no_proxy_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="looks like http://USER@HOST:PORT"):
        read_proxy(text)


@given(text=st.text())
def test_any_text_gives_a_proxy_or_a_refusal(text: str) -> None:
    for whole in (text, f"http://{text}", f"http://{text}:3128"):
        with suppress(ValueError):
            assert 0 < read_proxy(whole).port < 65_536


def test_a_configuration_holds_no_password() -> None:
    assert check_proxy("") == ""
    assert check_proxy("http://u@px:3128") == "http://u@px:3128"
    with pytest.raises(ValueError, match="proxy_password_file") as caught:
        check_proxy("http://u:secret@px:3128")
    assert "secret" not in str(caught.value)


def test_a_password_is_shown_nowhere() -> None:
    proxy = Proxy(host="px", port=3128, user="u", password="secret")  # noqa: S106
    shown = f"{proxy} {proxy!r} {Way(proxy=proxy)} {name_peer('hq', 8443, proxy)}"
    assert "secret" not in shown
    assert "px:3128" in shown


@pytest.mark.parametrize("name", ["grpc_proxy", "https_proxy", "http_proxy", "HTTPS_PROXY", "HTTP_PROXY"])
@pytest.mark.parametrize("text", ["http://px:3128", "px:3128"])
def test_the_environment_names_a_proxy(name: str, text: str) -> None:
    assert way_of_environment({name: text}) == Way(proxy=PROXY)


def test_the_more_particular_variable_wins() -> None:
    others = {"https_proxy": "http://other:1", "http_proxy": "http://other:2", "HTTP_PROXY": "http://other:3"}
    assert way_of_environment({"grpc_proxy": "http://px:3128", **others}).proxy == PROXY


@pytest.mark.parametrize("text", ["", "socks5://px:1", "://", "http://px:port"])
def test_an_environment_that_names_none(text: str) -> None:
    assert way_of_environment({"https_proxy": text}) == DIRECT


@pytest.mark.parametrize(
    ("spared", "host", "is_direct"),
    [
        ("", "hq.example", False),
        ("hq.example", "hq.example", True),
        ("HQ.example", "hq.Example", True),
        ("example", "hq.example", True),
        (".example", "hq.example", True),
        ("*.example", "hq.example", True),
        ("*", "hq.example", True),
        ("q.example", "hq.example", False),
        ("other, hq.example", "hq.example", True),
        (",,", "hq.example", False),
        (".", "hq.example", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.0.0.0/8", "hq.example", False),
        ("fd00::/8", "fd00::1", True),
    ],
)
def test_hosts_that_are_dialled_directly(spared: str, host: str, is_direct: bool) -> None:
    way = way_of_environment({"https_proxy": "http://px:3128", "no_proxy": spared})
    assert way.to(host) == (None if is_direct else PROXY)
