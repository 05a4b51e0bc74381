"""Unmask one round's staged payloads and write down the sums for whoever wants to recompute them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coordinator.aggregation.sums import publish_sums
from ravan.manifest.plan import Denominator
from ravan.secagg.combine import RoundSum, decode_sums
from ravan.secagg.unmask import Progress, UnmaskJob, unmask


@dataclass(frozen=True, slots=True, kw_only=True)
class SummedPayloads:
    """What a round's payloads add up to."""

    total: RoundSum
    published: bytes
    """The integer sums and the facts to recompute them from; see `sums.py`."""
    suspects: tuple[int, ...]
    """Members whose revealed shares contradicted all others."""


def sum_payloads(
    works: Sequence[UnmaskJob], payloads: Mapping[int, Path], denominator: Denominator, progress: Progress | None = None
) -> SummedPayloads:
    """Unmask the payloads of all groups' survivors, given by member index. Blocks; run it in a thread.

    Raise ProtocolError as `ravan.secagg.unmask` and `decode_sums` do.
    """
    results = [unmask(work, lambda index: payloads[index].open("rb"), progress) for work in works]
    total = decode_sums(works[0].assignment, results, denominator)
    return SummedPayloads(
        total=total,
        published=publish_sums(works, results),
        suspects=tuple(index for result in results for index in result.suspects),
    )
