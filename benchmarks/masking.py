"""Speed of masking against the raw keystream that it cannot do without.

Both sides make the same number of keystream bytes, in turn, in one process: raw is AES-128-CTR
`update_into` at its best chunk size and nothing else; ours is the self mask, n - 1 pair masks and packing.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from statistics import median
from typing import Final

import click
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from benchmarks.results import publish, say
from ravan.manifest.assignment import Suite
from ravan.secagg.masking import BundleMask, MaskJob, mask_vectors
from ravan.secagg.packing import RING
from ravan.secagg.prg import SignedKey

CHUNKS: Final = tuple(1 << exponent for exponent in range(14, 21))
"""Sizes in bytes at which the raw keystream is tried: 16 KiB to 1 MiB."""

RAW_BYTES: Final = 256 << 20
"""Keystream per raw measurement: long enough to outlast a change of the clock rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One case: a group of `members` and a vector of `elements`."""

    members: int
    elements: int

    @property
    def keystream_bytes(self) -> int:
        """Return what one member draws: n streams of four bytes an element."""
        return 4 * self.members * self.elements

    def job(self) -> MaskJob:
        """Return a job of one bundle with fresh keys."""
        keys = tuple(SignedKey(key=os.urandom(16), subtract=bool(i % 2)) for i in range(self.members))
        mask = BundleMask(bundle_id=0, length=self.elements, keys=keys)
        return MaskJob(suite=Suite.AES_128_CTR, ring_bits=24, bundles=(mask,))


def raw_speed(chunk_bytes: int, total_bytes: int) -> float:
    """Return bytes of keystream per second at one chunk size."""
    stream = Cipher(AES(os.urandom(16)), CTR(bytes(16))).encryptor()
    zeros, room = bytes(chunk_bytes), bytearray(chunk_bytes)
    started = time.perf_counter()
    for _ in range(total_bytes // chunk_bytes):
        stream.update_into(zeros, room)
    return total_bytes / (time.perf_counter() - started)


def masking_speed(shape: Shape) -> float:
    """Return bytes of keystream per second that masking a whole vector takes up."""
    vectors = {0: np.random.default_rng(1).integers(0, 1 << 24, shape.elements, dtype=np.uint32).astype(RING)}
    job = shape.job()
    started = time.perf_counter()
    mask_vectors(job, vectors)
    return shape.keystream_bytes / (time.perf_counter() - started)


def measure(shape: Shape, repeats: int) -> dict[str, float | int]:
    """Measure both sides in turn and return medians and their ratio.

    The best chunk size is the one with the best median over all repeats.
    """
    raw: dict[int, list[float]] = {chunk: [] for chunk in CHUNKS}
    ours = []
    for number in range(1, repeats + 1):
        for chunk in CHUNKS:
            raw[chunk].append(raw_speed(chunk, RAW_BYTES))
        ours.append(masking_speed(shape))
        say(f"  {number}/{repeats}: raw {max(r[-1] for r in raw.values()) / 1e9:.1f}, ours {ours[-1] / 1e9:.1f} GB/s")
    chunk, best = max(((chunk, median(speeds)) for chunk, speeds in raw.items()), key=lambda pair: pair[1])
    return {
        "members": shape.members,
        "elements": shape.elements,
        "keystream_gb_s": round(best / 1e9, 2),
        "keystream_chunk_bytes": chunk,
        "masking_gb_s": round(median(ours) / 1e9, 2),
        "ratio_to_keystream": round(median(ours) / best, 3),
    }


@click.command()
@click.option("--repeats", default=9, show_default=True, help="Measurements of each side; medians are reported.")
@click.option("--elements", default=1_000_000, show_default=True, help="Ring elements of the vector.")
def main(repeats: int, elements: int) -> None:
    """Compare masking with the raw keystream."""
    shapes = [Shape(members=100, elements=elements), Shape(members=16, elements=elements)]
    cases = []
    for shape in shapes:
        say(f"Masking {shape.elements} elements among {shape.members} members, {repeats} times ...")
        cases.append(measure(shape, repeats))
    publish("bench-masking", {"ratio_to_keystream": cases[0]["ratio_to_keystream"], "bar": 0.75, "cases": cases})


if __name__ == "__main__":
    main()
