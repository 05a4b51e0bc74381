"""The sums of a round again from the blob that they were published in. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.aggregation.sums import read_sums
from ravan.manifest.plan import Denominator
from ravan.secagg.combine import RoundSum, decode_sums
from ravan.secagg.unmask import Unmasked, UnmaskJob


def restore_total(works: Sequence[UnmaskJob], published: bytes, denominator: Denominator) -> RoundSum:
    """Decode what whoever unmasked has published, as it did.

    `works` say which rosters and survivors the sums are of. Raise TransferError MALFORMED for a blob of another
    kind, ProtocolError as `decode_sums` does.
    """
    groups = read_sums(published).groups
    results = [
        Unmasked(
            roster=work.roster,
            survivor_set=work.survivor_set,
            sums={each.bundle_id: each.total for each in group.bundles if each.total is not None},
            suspects=(),
        )
        for work, group in zip(works, groups, strict=True)
    ]
    return decode_sums(works[0].assignment, results, denominator)
