"""Recompute every round's sum from the sites' own copies, as a program of its own.

    python -m deploy.demo.recomputation SUMS_FOLDER KEPT_FOLDER

SUMS_FOLDER holds the coordinator's unmasked sums, one file a round; KEPT_FOLDER one folder a site with
what its agent quantised, written because it was started with `--keep-quantised`. This program shares no
arithmetic with the product: it adds plain integers and compares them bit for bit, then measures the
error of the decoded mean against the float64 mean of the clipped updates. It prints JSON by round.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

STATISTICS_LIMBS = 8
"""Elements between the leading canary of bundle 0 and its first block."""

Words = NDArray[np.uint32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the recomputation of one round says."""

    exact: bool
    """Every released bundle equals the plain sum of the survivors' vectors, modulo 2^ring_bits."""
    mean_error: float
    """Largest |decoded mean - float64 mean of the clipped updates| over all coordinates."""
    mean_error_bound: float
    """What it may be: one quantisation step of the coarsest block."""
    bundles: int
    """Released bundles that were compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptUpdate:
    """One site's own copy of what it quantised in one round."""

    vectors: Mapping[int, Words]
    """By bundle id, before masking."""
    updates: Mapping[str, NDArray[np.float64]]
    """Clipped deltas by block id in 16 hexadecimal digits, row-major."""


def recompute_round(sums: Path, kept: Path) -> tuple[int, Finding]:
    """Compare one round's sums with the survivors' copies; return its number and the finding."""
    tensors = load_file(sums)
    facts = json.loads(tensors["facts"].tobytes())
    survivors = {
        index: read_kept(kept / facts["sites"][str(index)], facts["assignment_digest"]) for index in facts["survivors"]
    }
    exact, error, bound, released = True, 0.0, 0.0, 0
    for bundle in facts["bundles"]:
        total = tensors.get(f"bundle.{bundle['id']}")
        if total is None:
            continue
        released += 1
        cohort = [survivors[index] for index in bundle["members"] if index in survivors]
        exact &= _adds_up(total, [copy.vectors[bundle["id"]] for copy in cohort], facts["ring_bits"])
        for decoded, true, step in _means(facts, bundle, total, cohort):
            error, bound = max(error, float(np.abs(decoded - true).max())), max(bound, step)
    finding = Finding(exact=exact and released > 0, mean_error=error, mean_error_bound=bound, bundles=released)
    return int(facts["round_number"]), finding


def read_kept(folder: Path, assignment_digest: str) -> KeptUpdate:
    """Read a site's copy of the round with this assignment."""
    with np.load(folder / f"{assignment_digest}.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    return KeptUpdate(
        vectors={int(name.removeprefix("bundle.")): a for name, a in arrays.items() if name.startswith("bundle.")},
        updates={name.removeprefix("update."): a for name, a in arrays.items() if name.startswith("update.")},
    )


def _adds_up(total: Words, vectors: Iterable[Words], ring_bits: int) -> bool:
    # Python's own integers: nothing here can wrap by accident.
    columns = zip(*(vector.tolist() for vector in vectors), strict=True)
    return bool([sum(column) % (1 << ring_bits) for column in columns] == total.tolist())


def _means(
    facts: Mapping[str, Any], bundle: Mapping[str, Any], total: Words, cohort: list[KeptUpdate]
) -> Iterable[tuple[NDArray[np.float64], NDArray[np.float64], float]]:
    modulus = 1 << facts["ring_bits"]
    at = 1 + (STATISTICS_LIMBS if bundle["id"] == 0 else 0)
    for block_id, length, clip in bundle["blocks"]:
        step = clip / facts["quantum_limit"]
        signed = total[at : at + length].astype(np.int64)
        signed[signed >= modulus // 2] -= modulus
        true = np.mean([copy.updates[block_id] for copy in cohort], axis=0)
        yield signed * step / len(cohort), true, step
        at += length + 1


def main() -> None:
    """Recompute all rounds and print the findings."""
    sums, kept = map(Path, sys.argv[1:3])
    findings = dict(recompute_round(path, kept) for path in sorted(sums.glob("*.sums")))
    print(json.dumps({number: dataclasses.asdict(finding) for number, finding in sorted(findings.items())}))


if __name__ == "__main__":
    main()
