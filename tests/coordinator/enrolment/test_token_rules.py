"""One-time tokens: who may use them, and what the refusals say."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode

import pytest

from coordinator.enrolment.tokens import hash_keys, make_token, redeem_token
from coordinator.store.records import TokenRecord
from ravan.errors import ConfigError, ErrorReason, IdentityError

NOW = 1_800_000_000.0
KEYS = hash_keys(b"tls", b"identity")
OTHER_KEYS = hash_keys(b"tls", b"another")


@pytest.fixture
def token() -> tuple[TokenRecord, str]:
    return make_token("plant-7", life_s=600, now=NOW)


def refused(record: TokenRecord | None, secret: str, keys: bytes = KEYS, now: float = NOW) -> IdentityError:
    with pytest.raises(IdentityError) as caught:
        redeem_token(record, secret=secret, keys_hash=keys, now=now)
    return caught.value


def test_the_secret_is_not_in_the_record(token: tuple[TokenRecord, str]) -> None:
    record, secret = token
    assert secret.encode() not in record.secret_hash
    assert secret not in repr(record)
    assert record.secret_hash.hex() not in repr(record)
    assert len(secret) >= 43  # 256 bits in base64


def test_a_token_is_redeemed_once_and_remembers_its_keys(token: tuple[TokenRecord, str]) -> None:
    record, secret = token
    used = redeem_token(record, secret=secret, keys_hash=KEYS, now=NOW + 5)
    assert (used.site, used.used_at, used.keys_hash) == ("plant-7", NOW + 5, KEYS)


def test_the_same_keys_may_ask_again_while_it_lives(token: tuple[TokenRecord, str]) -> None:
    record, secret = token
    used = redeem_token(record, secret=secret, keys_hash=KEYS, now=NOW + 5)
    assert redeem_token(used, secret=secret, keys_hash=KEYS, now=NOW + 599) == used
    assert refused(used, secret, now=NOW + 600).reason is ErrorReason.TOKEN_EXPIRED


def test_other_keys_are_told_that_it_was_used(token: tuple[TokenRecord, str]) -> None:
    record, secret = token
    used = redeem_token(record, secret=secret, keys_hash=KEYS, now=NOW)
    for moment in (NOW + 1, NOW + 10_000):
        error = refused(used, secret, OTHER_KEYS, moment)
        assert error.reason is ErrorReason.TOKEN_USED
        assert "ravan-coordinator token create --site plant-7" in error.next_step


def test_an_expired_token_says_so(token: tuple[TokenRecord, str]) -> None:
    record, secret = token
    error = refused(record, secret, now=NOW + 600)
    assert error.reason is ErrorReason.TOKEN_EXPIRED
    assert "plant-7" in str(error)
    assert "ravan-coordinator token create --site plant-7" in error.next_step


def test_unknown_tokens_and_wrong_secrets_look_alike(token: tuple[TokenRecord, str]) -> None:
    record, secret = token
    absent, wrong = refused(None, secret), refused(record, secret[:-1] + "~")
    assert absent.reason is wrong.reason is ErrorReason.TOKEN_UNKNOWN
    assert (str(absent), absent.next_step) == (str(wrong), wrong.next_step)
    assert "ravan-coordinator token create --site" in absent.next_step


def test_the_three_refusals_differ(token: tuple[TokenRecord, str]) -> None:
    record, secret = token
    used = redeem_token(record, secret=secret, keys_hash=KEYS, now=NOW)
    sentences = {
        str(refused(None, secret)),
        str(refused(used, secret, OTHER_KEYS)),
        str(refused(record, secret, now=NOW + 600)),
    }
    assert len(sentences) == 3


def test_no_life_means_a_day() -> None:
    assert make_token("plant-7", life_s=0, now=NOW)[0].expires_at == NOW + 86_400


@pytest.mark.parametrize(
    ("site", "life_s"), [("Plant 7", 0), ("", 0), ("a/b", 0), ("plant-7", -1), ("plant-7", 31 * 86_400)]
)
def test_bad_names_and_lives_are_refused(site: str, life_s: int) -> None:
    with pytest.raises(ConfigError) as caught:
        make_token(site, life_s=life_s, now=NOW)
    assert caught.value.reason is ErrorReason.CONFIG_INVALID
    assert caught.value.next_step


def test_the_key_hash_separates_its_parts() -> None:
    assert hash_keys(b"ab", b"c") != hash_keys(b"a", b"bc")


def test_id_and_secret_of_a_request_are_hkdf_of_the_coordinators_key() -> None:
    record, secret = make_token("plant-7", life_s=600, now=NOW, key=b"k" * 32, request_id="call 1")
    # RFC 5869, 2.2 and 2.3, from HMAC alone
    extracted = hmac.digest(bytes(32), b"k" * 32, hashlib.sha256)
    info = b"\x00\x00\x00\x0eravan/v1/token" + b"\x00\x00\x00\x06call 1"
    first = hmac.digest(extracted, info + b"\x01", hashlib.sha256)
    second = hmac.digest(extracted, first + info + b"\x02", hashlib.sha256)
    drawn = (first + second)[:40]
    assert record.token_id == drawn[:8].hex()
    assert urlsafe_b64decode(secret + "=") == drawn[8:]
    assert redeem_token(record, secret=secret, keys_hash=KEYS, now=NOW).site == "plant-7"


def test_other_requests_and_other_coordinators_make_other_tokens() -> None:
    made = [
        make_token("plant-7", life_s=600, now=NOW, key=key, request_id=request_id)
        for key, request_id in ((b"k" * 32, "1"), (b"k" * 32, "2"), (b"l" * 32, "1"), (b"k" * 32, ""), (b"k" * 32, ""))
    ]
    assert len({record.token_id for record, _ in made}) == len({secret for _, secret in made}) == len(made)
