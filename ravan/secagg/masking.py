"""Turn quantised bundle vectors into the packed payload that may leave the site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ravan.manifest.assignment import Suite
from ravan.secagg.packing import PAGE_ELEMENTS, RING, Elements, pack_page, packed_bytes
from ravan.secagg.prg import Keystreams, SignedKey, new_buffer
from ravan.secagg.refusals import malformed


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleMask:
    """All keystreams of one bundle of one member."""

    bundle_id: int
    length: int
    """Ring elements of the bundle's vector."""
    keys: tuple[SignedKey, ...]
    """The self mask's, then one per partner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskJob:
    """Everything a worker needs to mask one member's vectors; pure data, to be run once."""

    suite: Suite
    ring_bits: int
    bundles: tuple[BundleMask, ...]
    """In payload order."""

    @property
    def size_bytes(self) -> int:
        """Return the size of the payload."""
        return packed_bytes(self.ring_bits) * sum(bundle.length for bundle in self.bundles)


def mask_vectors(job: MaskJob, vectors: Mapping[int, Elements]) -> bytearray:
    """Return the payload: every bundle of `vectors` masked modulo the ring and packed.

    `vectors` maps each bundle id of the job to its uint32 vector; they are left as they are. Raise
    ProtocolError (MALFORMED) when a bundle is missing, too many, or of another length.
    """
    _check_vectors(job, vectors)
    payload = bytearray(job.size_bytes)
    view = memoryview(payload)
    buffer, page = new_buffer(), new_buffer()
    width = packed_bytes(job.ring_bits)
    position = 0
    for bundle in job.bundles:
        streams = Keystreams(job.suite, bundle.keys, buffer)
        vector = vectors[bundle.bundle_id]
        for start in range(0, bundle.length, PAGE_ELEMENTS):
            part = page[: min(PAGE_ELEMENTS, bundle.length - start)]
            np.copyto(part, vector[start : start + len(part)])
            streams.apply(part)
            pack_page(part, view[position : position + width * len(part)], job.ring_bits)
            position += width * len(part)
    return payload


def _check_vectors(job: MaskJob, vectors: Mapping[int, Elements]) -> None:
    if vectors.keys() != {bundle.bundle_id for bundle in job.bundles}:
        raise malformed("The quantised update does not hold exactly the bundles that are to be masked.")
    for bundle in job.bundles:
        vector = vectors[bundle.bundle_id]
        if vector.shape != (bundle.length,) or vector.dtype != RING:
            raise malformed(f"The vector of bundle {bundle.bundle_id} is not {bundle.length} elements of 32 bits.")
