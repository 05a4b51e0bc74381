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

STATISTICS_LIMBS = {16: 16, 24: 8, 32: 8}
"""Elements of bundle 0 that hold statistics, by ring bits; they come before its first block."""

Words = NDArray[np.uint32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the recomputation of one round says."""

    exact: bool
    """Every released bundle equals the plain sum of the survivors' vectors, modulo 2^ring_bits."""
    mean_error: float
    """Largest |decoded mean - float64 mean of the clipped updates| over all coordinates."""
    mean_error_bound: float
    """What it may be: one quantisation step of the coarsest block, in rotated coordinates where those are rounded."""
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
    exact, error, bound, released = True, 0.0, 0.0, 0
    for number, group in enumerate(facts["groups"]):
        survivors = {
            index: read_kept(kept / facts["sites"][str(index)], facts["assignment_digest"])
            for index in group["survivors"]
        }
        for bundle in group["bundles"]:
            total = tensors.get(f"group.{number}.bundle.{bundle['id']}")
            if total is None:
                continue
            released += 1
            cohort = [survivors[index] for index in bundle["members"] if index in survivors]
            exact &= _adds_up(total, [copy.vectors[bundle["id"]] for copy in cohort], facts["ring_bits"])
            for mean_error, step in _errors(facts, bundle, total, cohort):
                error, bound = max(error, mean_error), max(bound, step)
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


def _errors(
    facts: Mapping[str, Any], bundle: Mapping[str, Any], total: Words, cohort: list[KeptUpdate]
) -> Iterable[tuple[float, float]]:
    """Yield each block's largest error of the mean, and what it may be: one step of each site, weights included."""
    modulus, largest = 1 << facts["ring_bits"], facts["weight_limit"]
    weights = [int(copy.vectors[bundle["id"]][1]) if largest else 1 for copy in cohort]
    statistics = STATISTICS_LIMBS[facts["ring_bits"]] if bundle["id"] == 0 else 0
    at = 1 + (largest > 0) + statistics + len(bundle.get("scored", ()))
    for block in bundle["blocks"]:
        step = block["bound"] / facts["quantum_limit"] * (largest or 1)
        signed = total[at : at + block["length"]].astype(np.int64)
        signed[signed >= modulus // 2] -= modulus
        true = np.average([copy.updates[block["id"]] for copy in cohort], axis=0, weights=weights)
        if block["signs"]:
            true = _rotated(true, bytes.fromhex(block["signs"]))
        error = float(np.abs(signed * step / sum(weights) - true).max())
        yield error, step * len(cohort) / sum(weights)
        at += block["length"] + 1


def _rotated(flat: NDArray[np.float64], signs: bytes) -> NDArray[np.float64]:
    """Turn signs, then transform rows and columns by the sum and difference of halves (Walsh-Hadamard)."""
    bits = np.unpackbits(np.frombuffer(signs, np.uint8), count=len(flat)).astype(bool)
    side = round(len(flat) ** 0.5)
    square = np.where(bits, -flat, flat).reshape(side, side)
    for _ in range(2):
        half = side // 2
        while half:
            folded = square.reshape(-1, 2, half, side)
            square = np.concatenate([folded[:, :1] + folded[:, 1:], folded[:, :1] - folded[:, 1:]], axis=1)
            half //= 2
        square = square.reshape(side, side).T / side**0.5
    return square.ravel()


def main() -> None:
    """Recompute all rounds and print the findings."""
    sums, kept = map(Path, sys.argv[1:3])
    findings = dict(recompute_round(path, kept) for path in sorted(sums.glob("*.sums")))
    print(json.dumps({number: dataclasses.asdict(finding) for number, finding in sorted(findings.items())}))


if __name__ == "__main__":
    main()
