"""Every reason has a status and a kind, and survives the wire."""

from __future__ import annotations

import pytest
from grpc import StatusCode, aio
from hypothesis import given
from hypothesis import strategies as st

from ravan.errors import ErrorReason, IdentityError, RavanError, ResourceError, StateError
from ravan.rpc.status import DETAIL_KEY, REASONS, detail_of, error_from_rpc, shortened, status_of
from ravan.wire.v1 import errors_pb2


def rpc_error(
    code: StatusCode, details: str = "", metadata: tuple[tuple[str, bytes], ...] = (), debug: str = ""
) -> aio.AioRpcError:
    return aio.AioRpcError(code, aio.Metadata(), aio.Metadata(*metadata), details, debug)


def received(error: aio.AioRpcError) -> RavanError:
    return error_from_rpc(error, address="hq:8443", authority="CN=Ravan CA 1 (SHA-256 ab)")


def test_the_wire_has_the_same_reasons_as_the_code() -> None:
    on_the_wire = {name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()}  # noqa: SIM118
    assert on_the_wire - {"UNSPECIFIED"} == {reason.value for reason in ErrorReason}


def test_every_reason_has_a_status_that_is_a_failure() -> None:
    assert set(REASONS) == set(ErrorReason)
    assert all(code is not StatusCode.OK for code, _ in REASONS.values())


def test_only_an_unreachable_peer_is_unavailable() -> None:
    # channels repeat UNAVAILABLE by themselves, so no refusal may look like it
    assert [reason for reason in ErrorReason if status_of(reason) is StatusCode.UNAVAILABLE] == [
        ErrorReason.UNREACHABLE
    ]


@pytest.mark.parametrize("reason", ErrorReason)
def test_an_error_comes_back_as_it_was(reason: ErrorReason) -> None:
    kind = REASONS[reason][1]
    sent = kind("The sentence, für Menschen.", reason=reason, next_step="Do this.")
    back = received(rpc_error(status_of(reason), str(sent), ((DETAIL_KEY, detail_of(sent)),)))
    assert type(back) is kind
    assert (str(back), back.reason, back.next_step) == (str(sent), reason, "Do this.")


@given(text=st.text(min_size=200, max_size=3000))
def test_texts_fit_the_metadata(text: str) -> None:
    assert len(shortened(text).encode()) <= 1000
    if len(text.encode()) <= 1000:
        assert shortened(text) == text


@given(raw=st.binary(max_size=200))
def test_any_detail_gives_some_error(raw: bytes) -> None:
    back = received(rpc_error(StatusCode.INTERNAL, "x", ((DETAIL_KEY, raw),)))
    assert isinstance(back, RavanError)
    assert back.reason in set(ErrorReason)


def test_a_reason_of_a_newer_peer_counts_as_internal() -> None:
    raw = errors_pb2.ErrorDetail(message="new").SerializeToString() + b"\x08\xe7\x07"  # reason = 999
    back = received(rpc_error(StatusCode.ABORTED, "new", ((DETAIL_KEY, raw),)))
    assert (str(back), back.reason) == ("new", ErrorReason.INTERNAL)


def test_an_unreachable_coordinator_is_named() -> None:
    back = received(rpc_error(StatusCode.UNAVAILABLE, "failed to connect: Connection refused"))
    assert isinstance(back, ResourceError)
    assert back.reason is ErrorReason.UNREACHABLE
    assert "hq:8443" in str(back)
    assert "firewall" in back.next_step


def test_a_slow_coordinator_is_told_from_an_absent_one() -> None:
    back = received(rpc_error(StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))
    assert back.reason is ErrorReason.UNREACHABLE
    assert "in time" in str(back)


def test_a_failed_verification_names_the_authority() -> None:
    debug = "Ssl handshake failed: OPENSSL_internal:CERTIFICATE_VERIFY_FAILED"
    back = received(rpc_error(StatusCode.UNAVAILABLE, "failed to connect", debug=debug))
    assert isinstance(back, IdentityError)
    assert "CN=Ravan CA 1 (SHA-256 ab)" in str(back)


@pytest.mark.parametrize(
    ("details", "words"),
    [
        ("last error: Socket closed", "closed the connection"),
        ("hostname lookup error: Domain name not found", "cannot be resolved"),
        ("Tls handshake failed: WRONG_VERSION_NUMBER", "broke off the TLS handshake"),
    ],
)
def test_the_ways_to_have_no_connection_differ(details: str, words: str) -> None:
    assert words in str(received(rpc_error(StatusCode.UNAVAILABLE, details)))


@pytest.mark.parametrize("code", [code for code in StatusCode if code is not StatusCode.OK])
def test_a_bare_status_gives_a_sentence(code: StatusCode) -> None:
    back = received(rpc_error(code, "some detail"))
    assert "hq:8443" in str(back)
    assert str(back).endswith(".")


def test_the_details_of_an_unknown_failure_are_not_repeated() -> None:
    back = received(rpc_error(StatusCode.UNKNOWN, "Traceback secret"))
    assert isinstance(back, StateError)
    assert "secret" not in str(back)
