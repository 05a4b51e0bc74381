"""No keystream and no nonce serves twice, whatever ends, restarts or is run again; and one bit undoes all masks."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from secagg_driver import Federation, make_assignment, refused, seeded

from ravan.errors import ErrorReason
from ravan.ids import Digest
from ravan.manifest.assignment import Suite
from ravan.secagg import prg, sealing
from ravan.secagg.agent_secrets import mask_job, pair_secrets
from ravan.secagg.keys import RoundKeys
from ravan.secagg.masking import mask_vectors
from ravan.secagg.messages import RevealRequest
from ravan.secagg.transcript import derivation_salt, mask_set_digest
from ravan.secagg.unmask import UnmaskJob

TILES = [(0, 1), (0, 1), (0, 1), (0,)]
EVERYONE = (0, 1, 2, 3)


@dataclass
class Ledger:
    """Every keystream that was opened while masking, and every nonce that sealed something."""

    streams: defaultdict[bytes, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    """Key of a stream to the agents' payloads that it went into."""
    nonces: defaultdict[tuple[bytes, bytes], set[bytes]] = field(default_factory=lambda: defaultdict(set))
    """Key and nonce to plaintexts."""


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    noted = Ledger()
    real_stream, real_cipher = prg._open_stream, AESGCM

    def open_stream(suite: Suite, key: bytes) -> Any:
        opened.append(key)
        return real_stream(suite, key)

    class Cipher:
        def __init__(self, key: bytes) -> None:
            self._key, self._real = key, real_cipher(key)

        def encrypt(self, nonce: bytes, plain: bytes, bound: bytes) -> bytes:
            noted.nonces[self._key, nonce].add(plain)
            return self._real.encrypt(nonce, plain, bound)

        def decrypt(self, nonce: bytes, sealed: bytes, bound: bytes) -> bytes:
            return self._real.decrypt(nonce, sealed, bound)

    real_mask = mask_vectors
    opened: list[bytes] = []

    def masked(job: Any, vectors: Any) -> bytearray:
        opened.clear()
        payload = real_mask(job, vectors)
        for key in opened:
            noted.streams[key].add(hashlib.sha256(payload).digest())
        return payload

    monkeypatch.setattr(prg, "_open_stream", open_stream)
    monkeypatch.setattr(sealing, "AESGCM", Cipher)
    monkeypatch.setattr("secagg_driver.mask_vectors", masked)
    return noted


def fresh(number: int, digest: str = "assignment") -> Federation:
    """A round whose agents have roots of their own, as `os.urandom` would give them."""
    assignment = replace(make_assignment(TILES), round_number=number)
    federation = Federation(
        assignment, digest=Digest(seeded(digest, number)), roster_digest=Digest(seeded("roster", digest, number))
    )
    for index in EVERYONE:
        federation.agents[index] = federation.agent(index, root=seeded("root", digest, number, index))
    return federation


def run_to_shares(federation: Federation) -> Any:
    federation.advertise(EVERYONE)
    deliveries = federation.share(EVERYONE)
    assert isinstance(deliveries, dict)
    return deliveries


def test_every_key_masks_one_vector_a_side_and_every_nonce_seals_one_text(ledger: Ledger) -> None:
    # A whole round; one that ends before masking, and its re-run; one that ends after masking; the next.
    fresh(1).run(finishers=EVERYONE, sharers=EVERYONE, uploaders=EVERYONE, revealers=EVERYONE)
    run_to_shares(fresh(2))
    end_after_masking(fresh(3))
    fresh(4).run(finishers=EVERYONE, sharers=EVERYONE, uploaders=EVERYONE, revealers=EVERYONE)
    # Self masks go into one payload, pair masks into the two of the pair, with opposite signs.
    assert max(len(payloads) for payloads in ledger.streams.values()) == 2
    alone = sum(len(payloads) == 1 for payloads in ledger.streams.values())
    pairs = sum(len(payloads) == 2 for payloads in ledger.streams.values())
    # Bundles: common and tile 0 of four members, tile 1 of three; three rounds were masked.
    assert (alone, pairs) == (3 * (4 + 4 + 3), 3 * (6 + 6 + 3))
    assert len(ledger.nonces) == 4 * 4 * 3
    assert all(len(texts) == 1 for texts in ledger.nonces.values())


def end_after_masking(federation: Federation) -> None:
    """All mask, too few arrive: the updates are consumed, and nothing is revealed."""
    federation.upload(run_to_shares(federation), EVERYONE[:2])


def test_a_process_that_starts_again_repeats_its_bytes_or_shares_no_key(ledger: Ledger) -> None:
    federation = fresh(1)
    deliveries = run_to_shares(federation)
    first = federation.mask(0, deliveries[0])
    # The same root and the same inputs: the same bytes, so what is sent again is what was sent.
    replay = fresh(1)
    replay.roster = federation.roster
    replay.agents[0].finish_training()
    assert federation.roster is not None
    replay.agents[0].roster(federation.roster, federation.roster_digest)
    assert replay.mask(0, deliveries[0]) == first
    assert all(len(payloads) == 1 for payloads in ledger.streams.values())
    # A new process draws a new root; the roster does not hold its keys, so it can go no further.
    restarted = federation.agent(0, root=seeded("another root"))
    restarted.finish_training()
    roster = federation.roster
    refused(ErrorReason.PROTOCOL_VIOLATION, lambda: restarted.roster(roster, federation.roster_digest), "own keys")
    # And no machine masks a second vector.
    refused(ErrorReason.WRONG_STATE, lambda: federation.agents[0].deliver(deliveries[0]), "share delivery")


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(["assignment", "roster", "mask set"]), st.integers(0, 255))
def test_one_flipped_bit_of_what_a_member_was_shown_breaks_the_cancellation(document: str, bit: int) -> None:
    federation = Federation(make_assignment(TILES))
    deliveries = run_to_shares(federation)
    for index in EVERYONE:
        upload = federation.mask(index, deliveries[index])
        federation.coordinator.uploaded(index, upload.header)
    assert federation.roster is not None
    digests = {"assignment": federation.digest, "roster": federation.roster_digest}
    mask_set = mask_set_digest(federation.digest, federation.roster_digest, EVERYONE)
    if document == "mask set":
        mask_set = flipped(mask_set, bit)
    else:
        digests[document] = flipped(digests[document], bit)
    keys, salt = RoundKeys(root=seeded("root", 1)), derivation_salt(digests["assignment"], digests["roster"])
    pairs = pair_secrets(keys, 1, federation.roster, salt)
    job = mask_job(keys, pairs, federation.assignment, 1, federation.roster, EVERYONE, mask_set)
    federation.payloads[1] = bytes(mask_vectors(job, federation.vectors[1]))
    survivors = federation.coordinator.close_upload()
    assert isinstance(survivors, dict)
    federation.survivor_set = survivors[0]
    request = federation.confirm(EVERYONE)
    assert isinstance(request, RevealRequest)
    work = federation.reveal(request, EVERYONE)
    assert isinstance(work, UnmaskJob)
    refused(ErrorReason.CANARY_MISMATCH, lambda: federation.unmask(work), "did not cancel")


def flipped(digest: Digest, bit: int) -> Digest:
    changed = bytearray(digest)
    changed[bit // 8] ^= 1 << bit % 8
    return Digest(bytes(changed))
