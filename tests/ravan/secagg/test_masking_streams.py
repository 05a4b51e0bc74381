"""Masking of vectors longer than a page, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from secagg_driver import seeded, unpacked_page

from ravan.errors import ErrorReason, ProtocolError
from ravan.manifest.assignment import Suite
from ravan.secagg.masking import BundleMask, MaskJob, mask_vectors
from ravan.secagg.packing import PAGE_ELEMENTS, Elements
from ravan.secagg.prg import SignedKey

LENGTHS = {0: 2 * PAGE_ELEMENTS + 8, 5: 4, 9: PAGE_ELEMENTS}


def key(*name: object) -> bytes:
    return seeded(*name)[:16]


def job() -> MaskJob:
    return MaskJob(
        suite=Suite.AES_128_CTR,
        ring_bits=24,
        bundles=tuple(
            BundleMask(
                bundle_id=bundle,
                length=length,
                keys=tuple(SignedKey(key=key(bundle, i), subtract=i == 2) for i in range(4)),
            )
            for bundle, length in LENGTHS.items()
        ),
    )


def vectors() -> dict[int, Elements]:
    generator = np.random.default_rng(1)
    return {b: generator.integers(0, 2**24, n, dtype=np.uint32) for b, n in LENGTHS.items()}


def whole_stream(secret: bytes, length: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    stream = Cipher(AES(secret), CTR(bytes(16))).encryptor().update(bytes(4 * length))
    return np.frombuffer(stream, "<u4")


def unpacked(payload: bytearray) -> dict[int, list[int]]:
    view, position, out = memoryview(payload), 0, {}
    for bundle, length in LENGTHS.items():
        values: list[int] = []
        while len(values) < length:
            size = 3 * min(PAGE_ELEMENTS, length - len(values))
            values += unpacked_page(view[position : position + size])
            position += size
        out[bundle] = values
    assert position == len(payload)
    return out


def test_streams_run_on_over_pages_and_start_anew_in_each_bundle() -> None:
    plain = vectors()
    masked = unpacked(mask_vectors(job(), plain))
    for bundle, length in LENGTHS.items():
        streams = [whole_stream(key(bundle, i), length).astype(np.int64) for i in range(4)]
        expected = plain[bundle].astype(np.int64) + streams[0] + streams[1] - streams[2] + streams[3]
        assert masked[bundle] == (expected % 2**24).tolist()


def test_the_update_itself_stays_as_it_was() -> None:
    plain, untouched = vectors(), vectors()
    mask_vectors(job(), plain)
    assert all(np.array_equal(plain[b], untouched[b]) for b in LENGTHS)


def test_masked_values_look_uniform_whatever_is_masked() -> None:
    constant = {b: np.full(n, 7, np.uint32) for b, n in LENGTHS.items()}
    values = np.array(unpacked(mask_vectors(job(), constant))[0])
    for shift in (0, 8, 16):
        counts = np.bincount(values >> shift & 0xFF, minlength=256)
        chi_square = float((((counts - len(values) / 256) ** 2) / (len(values) / 256)).sum())
        # 255 degrees of freedom: 0.01 % of uniform samples lie above 347; keys are fixed, so this never flickers.
        assert chi_square < 347


@pytest.mark.parametrize("fault", ["missing", "extra", "shorter", "longer", "wider", "narrower"])
def test_vectors_that_do_not_fit_are_refused(fault: str) -> None:
    wrong = vectors()
    match fault:
        case "missing":
            del wrong[5]
        case "extra":
            wrong[6] = wrong[5]
        case "shorter":
            wrong[5] = wrong[5][:-1]
        case "longer":
            wrong[5] = np.append(wrong[5], wrong[5])
        case "wider":
            wrong[5] = wrong[5].astype(np.int64)
        case _:
            wrong[5] = wrong[5].astype(np.uint8)
    with pytest.raises(ProtocolError) as caught:
        mask_vectors(job(), wrong)
    assert caught.value.reason is ErrorReason.MALFORMED


def test_keys_do_not_show_in_a_printed_job() -> None:
    assert key(0, 0).hex() not in repr(job())
    assert repr(key(0, 0)) not in repr(job())
