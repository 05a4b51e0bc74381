"""Recover the secrets that survivors revealed and take all masks off the sum; run by a worker.

Memory: one accumulator per released bundle and a page of buffers, whatever the number of survivors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ravan.ids import Digest
from ravan.manifest.assignment import Assignment
from ravan.manifest.roster import Bundle, Roster
from ravan.secagg.bundles import bundles_of, lay_out
from ravan.secagg.keys import agree, derive_private_key, pair_mask_key, self_mask_key
from ravan.secagg.messages import SeedShare, SelfMaskShares, SurvivorSet
from ravan.secagg.packing import PAGE_ELEMENTS, RING, Elements, add_page, modulus_mask, packed_bytes
from ravan.secagg.prg import Keystreams, SignedKey, new_buffer
from ravan.secagg.recovery import RecoveredSecrets, recover_secrets
from ravan.secagg.refusals import bad_canary, malformed
from ravan.secagg.transcript import derivation_salt, mask_set_digest


class PayloadReader(Protocol):
    """A binary stream: a file opened with `rb`, or `io.BytesIO`."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill as much of `buffer` as is at hand; return the number of bytes, 0 at the end."""
        ...


OpenPayload = Callable[[int], AbstractContextManager[PayloadReader]]
"""Opens the staged payload of a survivor for reading from its start."""

Progress = Callable[[int, int], None]
"""Told how many of how many payloads are done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmaskJob:
    """Everything but the payloads that unmasking a group needs; pure data, fit for another process."""

    assignment: Assignment
    assignment_digest: Digest
    roster: Roster
    roster_digest: Digest
    mask_set: tuple[int, ...]
    """U2."""
    survivor_set: SurvivorSet
    reveals: Mapping[int, Mapping[int, SelfMaskShares | SeedShare]] = field(repr=False)
    """Holder index to owner index to revealed shares; at least t holders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmasked:
    """The sums of a group's survivors' quantised vectors, modulo the ring."""

    roster: Roster
    survivor_set: SurvivorSet

    sums: Mapping[int, Elements]
    """Approved bundle id to its vector."""
    suspects: tuple[int, ...]
    """Holders whose revealed shares contradicted all others and were left out."""


def unmask(job: UnmaskJob, open_payload: OpenPayload, progress: Progress | None = None) -> Unmasked:
    """Add the survivors' payloads and remove every mask that is left in the sum.

    Raise ProtocolError: PROTOCOL_VIOLATION when shares are inconsistent and no culprit stands out,
    MALFORMED when a payload is cut short, CANARY_MISMATCH when masks did not cancel.
    """
    secrets = recover_secrets(job.roster, job.survivor_set, job.reveals)
    removal = _MaskRemoval(job, secrets)
    approved = [bundle for bundle in job.roster.bundles if bundle.bundle_id in job.survivor_set.bundles]
    sums = {b.bundle_id: np.zeros(lay_out(job.assignment, b).length, RING) for b in approved}
    survivors = job.survivor_set.survivors
    for done, survivor in enumerate(survivors, start=1):
        with open_payload(survivor) as payload:
            removal.add_payload(survivor, payload, sums)
        if progress:
            progress(done, len(survivors))
    for bundle in approved:
        sums[bundle.bundle_id] &= modulus_mask(job.assignment.ring_bits)
        _check_canaries(job, bundle, sums[bundle.bundle_id])
    return Unmasked(roster=job.roster, survivor_set=job.survivor_set, sums=sums, suspects=secrets.suspects)


class _MaskRemoval:
    """Add one payload at a time, page by page, together with the streams that cancel its masks."""

    def __init__(self, job: UnmaskJob, secrets: RecoveredSecrets) -> None:
        self._job = job
        self._secrets = secrets
        self._mask_keys = {entry.index: entry.mask_key for entry in job.roster.entries}
        self._dropped = {index: derive_private_key(seed) for index, seed in secrets.mask_seeds.items()}
        self._salt = derivation_salt(job.assignment_digest, job.roster_digest)
        self._mask_set = mask_set_digest(job.assignment_digest, job.roster_digest, job.mask_set)
        self._lengths = {b.bundle_id: lay_out(job.assignment, b).length for b in job.roster.bundles}
        self._buffer, self._scratch = new_buffer(), new_buffer()
        self._width = packed_bytes(job.assignment.ring_bits)
        self._packed = memoryview(bytearray(PAGE_ELEMENTS * self._width))

    def add_payload(self, survivor: int, payload: PayloadReader, sums: Mapping[int, Elements]) -> None:
        """Add the bundles of `sums` and read past all others."""
        pairs = {d: agree(key, self._mask_keys[survivor], self._salt) for d, key in self._dropped.items()}
        for bundle in bundles_of(self._job.roster.bundles, survivor):
            total = sums.get(bundle.bundle_id)
            streams = None if total is None else self._streams(survivor, bundle, pairs)
            length = self._lengths[bundle.bundle_id]
            for start in range(0, length, PAGE_ELEMENTS):
                count = min(PAGE_ELEMENTS, length - start)
                packed = self._read(payload, survivor, count)
                if total is not None and streams is not None:
                    part = total[start : start + count]
                    add_page(packed, part, self._scratch[:count], self._job.assignment.ring_bits)
                    streams.apply(part)

    def _streams(self, survivor: int, bundle: Bundle, pairs: Mapping[int, bytes]) -> Keystreams:
        suite, bundle_id = self._job.assignment.suite, bundle.bundle_id
        seed = self._secrets.self_seeds[survivor, bundle_id]
        keys = [SignedKey(key=self_mask_key(seed, suite, bundle_id, survivor), subtract=True)]
        for dropped, pair in pairs.items():
            if dropped in bundle.members:
                key = pair_mask_key(pair, suite, bundle_id, self._mask_set, (survivor, dropped))
                # The survivor added the stream of a higher partner and subtracted that of a lower one.
                keys.append(SignedKey(key=key, subtract=dropped > survivor))
        return Keystreams(suite, keys, self._buffer)

    def _read(self, payload: PayloadReader, survivor: int, count: int) -> memoryview:
        packed = self._packed[: count * self._width]
        filled = 0
        while filled < len(packed):
            count_read = payload.readinto(packed[filled:])
            if not count_read:
                raise malformed(f"The staged masked vector of member {survivor} ends too early.")
            filled += count_read
        return packed


def _check_canaries(job: UnmaskJob, bundle: Bundle, total: Sequence[int] | Elements) -> None:
    expected = len(set(bundle.members).intersection(job.survivor_set.survivors))
    for position in lay_out(job.assignment, bundle).canaries:
        if int(total[position]) != expected:
            raise bad_canary(
                f"The masks of bundle {bundle.bundle_id} did not cancel: a check value is "
                f"{int(total[position])} instead of {expected}. The bundle is discarded."
            )
