"""A hand-over is followed from a trusted authority alone, and has one spelling."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from coordinator.enrolment.ca import create_authority, issue_client
from ravan.errors import ErrorReason, IdentityError
from ravan.identity.certificates import Role, load_certificates
from ravan.identity.handover import (
    PREFIX,
    HandOver,
    decode_hand_over,
    encode_hand_over,
    sign_hand_over,
    verify_hand_over,
)
from ravan.identity.keys import new_tls_key

NOW = 1_700_000_000.0
OLD, NEW, FOREIGN = (create_authority(NOW) for _ in range(3))
KEY = bytes(range(32))
DOCUMENT = sign_hand_over(OLD.key, OLD.certificate, NEW.certificate, KEY)
VECTORS = Path(__file__).parents[2] / "vectors" / "identity" / "v1" / "statements.json"


def reason(document: HandOver, *trusted: object) -> ErrorReason:
    with pytest.raises(IdentityError) as caught:
        verify_hand_over(document, trusted)  # type: ignore[arg-type]
    return caught.value.reason


def test_the_trusted_authoritys_word_is_followed() -> None:
    document = decode_hand_over(encode_hand_over(DOCUMENT))
    assert verify_hand_over(document, [FOREIGN.certificate, OLD.certificate]) == NEW.certificate
    assert document.manifest_key == KEY


def test_the_signature_is_over_what_is_written_here() -> None:
    successor = NEW.certificate.public_bytes(Encoding.DER)
    parts = (b"ravan/v1/hand-over", OLD.certificate.fingerprint(hashes.SHA256()), successor, KEY)
    transcript = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    OLD.key.public_key().verify(DOCUMENT.signature, transcript, ec.ECDSA(hashes.SHA256()))


def test_a_known_hand_over_is_read_and_verified() -> None:
    known = json.loads(VECTORS.read_text())["hand_over"]
    document = decode_hand_over(known["text"])
    (trusted,) = load_certificates(known["old_authority_pem"].encode())
    authority = verify_hand_over(document, [trusted])
    assert authority.fingerprint(hashes.SHA256()).hex() == known["new_authority_sha256"]
    assert document.manifest_key.hex() == known["manifest_key"]


def test_a_stranger_hands_over_nothing() -> None:
    stranger = sign_hand_over(FOREIGN.key, FOREIGN.certificate, NEW.certificate, KEY)
    assert reason(stranger, OLD.certificate) is ErrorReason.IDENTITY_MISMATCH
    assert reason(DOCUMENT) is ErrorReason.IDENTITY_MISMATCH
    # in the old authority's name, by another key
    forged = sign_hand_over(FOREIGN.key, OLD.certificate, NEW.certificate, KEY)
    assert reason(forged, OLD.certificate) is ErrorReason.SIGNATURE_INVALID


@pytest.mark.parametrize(
    "change",
    [
        {"next_authority": FOREIGN.certificate.public_bytes(Encoding.DER)},
        {"manifest_key": bytes(32)},
        {"signature": b""},
        {"signature": DOCUMENT.signature[:-1]},
    ],
)
def test_a_changed_hand_over_is_refused(change: dict[str, bytes]) -> None:
    assert reason(dataclasses.replace(DOCUMENT, **change), OLD.certificate) is ErrorReason.SIGNATURE_INVALID


def test_a_successor_that_is_no_authority_is_refused() -> None:
    leaf = issue_client(OLD, new_tls_key().public_key(), role=Role.AGENT, name="plant-7", now=NOW)
    with pytest.raises(IdentityError) as caught:
        decode_hand_over(encode_hand_over(sign_hand_over(OLD.key, OLD.certificate, leaf, KEY)))
    assert caught.value.reason is ErrorReason.MALFORMED


@given(st.one_of(st.text(max_size=300), st.text(max_size=300).map(lambda text: PREFIX + text)))
def test_garbage_is_refused(text: str) -> None:
    with pytest.raises(IdentityError) as caught:
        decode_hand_over(text)
    assert caught.value.reason is ErrorReason.MALFORMED


# A changed serial number may be negative, of which the library warns; that it is refused is what counts.
@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@given(st.data())
def test_one_changed_letter_is_never_followed(data: st.DataObject) -> None:
    text = encode_hand_over(DOCUMENT)
    place = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("ABCabc019-_.").filter(lambda each: each != text[place]))
    with pytest.raises(IdentityError):
        verify_hand_over(decode_hand_over(text[:place] + letter + text[place + 1 :]), [OLD.certificate])
