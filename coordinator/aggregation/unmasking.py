"""Unmask one round's staged payloads and write down the sums for whoever wants to recompute them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from coordinator.aggregation.sums import SumsWriter
from ravan.ids import Digest
from ravan.manifest.plan import Denominator
from ravan.secagg.combine import RoundSum, RoundTally
from ravan.secagg.unmask import Progress, UnmaskJob, unmask


@dataclass(frozen=True, slots=True, kw_only=True)
class SummedPayloads:
    """What a round's payloads add up to."""

    total: RoundSum
    sums_digest: Digest
    """Of what was written: the integer sums and the facts to recompute them from; see `sums.py`."""
    suspects: tuple[int, ...]
    """Members whose revealed shares contradicted all others."""


def sum_payloads(
    works: Sequence[UnmaskJob],
    payloads: Mapping[int, Path],
    denominator: Denominator,
    sums: BinaryIO,
    progress: Progress | None = None,
) -> SummedPayloads:
    """Unmask the payloads of all groups' survivors, given by member index, and write the integer sums to a file.

    One group after another, so that the sums of one are in memory at a time. Blocks; run it in a thread. Raise
    ProtocolError as `ravan.secagg.unmask` and `RoundTally` do; what was written until then is of no use.
    """
    tally, writer = RoundTally(works[0].assignment), SumsWriter(sums, works)
    suspects: list[int] = []
    for work in works:
        result = unmask(work, lambda index: payloads[index].open("rb"), progress)
        tally.add(result)
        writer.add(result)
        suspects.extend(result.suspects)
    return SummedPayloads(total=tally.divide(denominator), sums_digest=writer.finish(), suspects=tuple(suspects))
