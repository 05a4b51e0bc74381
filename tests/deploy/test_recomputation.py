"""The program that recomputes rounds agrees with honest sums in every mode, and notices what is not one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from secagg_driver import Federation, make_assignment, scores_of, statistics_of
from test_quantised_updates import run_updates

from coordinator.aggregation.sums import SumsWriter
from deploy.demo.recomputation import recompute_round
from edge_agent.secure.keeping import QuantisedKeeper
from edge_agent.training.outcome import TrainingCost, TrainingOutcome
from ravan.ids import BlockId
from ravan.manifest.assignment import Assignment, Weighting
from ravan.quantisation import quantise_update
from ravan.secagg.bundles import bundles_of
from ravan.secagg.unmask import UnmaskJob

WEIGHTS = Weighting(limit=9, unit=2, cell_minimum=3, cell_threshold=3)
MODES: dict[str, dict[str, Any]] = {
    "plain": {},
    "narrow ring, rotated": {"ring_bits": 16, "rotate": True},
    "wide ring": {"ring_bits": 32},
    "weighted": {"weighting": WEIGHTS},
    "scored": {"scored": [(0, 1)] * 6},
    "all at once": {"weighting": WEIGHTS, "rotate": True, "ring_bits": 16},
}


def updates_of(assignment: Assignment, index: int) -> dict[BlockId, NDArray[np.float64]]:
    generator = np.random.default_rng(index)
    return {
        spec.block_id: generator.standard_normal(spec.length) * spec.clip / spec.length for spec in assignment.blocks
    }


class KeptRound:
    """A round of six sites with their copies on disk, as `--keep-quantised` writes them."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.federation = Federation(make_assignment([(0, 1)] * 6, lengths=(64, 9), dense=5, **settings))
        assignment = self.federation.assignment
        updates = {i: updates_of(assignment, i) for i in range(6)}
        held = {i: 3 * i for i in range(6)}
        result = run_updates(self.federation, updates, held)
        for index, update in updates.items():
            bundles = bundles_of(result.roster.bundles, index)
            outcome = TrainingOutcome(
                deltas=update,  # type: ignore[arg-type] # float64 rounds like float32
                statistics=statistics_of(index),
                held_examples=held[index],
                cost=TrainingCost(extra_peak_bytes=0, step_cpu_s=0.0),
            )
            # the same generator as in the round, hence the same rounding
            vectors = quantise_update(
                assignment,
                bundles,
                update,
                outcome.statistics,
                np.random.default_rng(index),
                held_examples=outcome.held_examples,
                scores=scores_of(assignment, index),
            )
            keeper = QuantisedKeeper(folder / "kept" / f"site-{index}")
            keeper.keep(assignment, self.federation.digest, bundles, outcome, vectors)
        job = UnmaskJob(
            assignment=assignment,
            assignment_digest=self.federation.digest,
            roster=result.roster,
            roster_digest=self.federation.roster_digest,
            mask_set=tuple(range(6)),
            survivor_set=result.survivor_set,
            reveals={},
        )
        self.sums, self.kept = folder / "round.sums", folder / "kept"
        with self.sums.open("wb") as file:
            writer = SumsWriter(file, [job])
            writer.add(result)
            writer.finish()


@pytest.mark.parametrize("mode", MODES)
def test_honest_rounds_are_exact_and_within_their_error_bound(tmp_path: Path, mode: str) -> None:
    kept = KeptRound(tmp_path, MODES[mode])
    number, finding = recompute_round(kept.sums, kept.kept)
    assert (number, finding.exact, finding.bundles) == (1, True, 2)
    assert 0 < finding.mean_error <= finding.mean_error_bound


@pytest.mark.parametrize("mode", MODES)
def test_one_changed_element_is_noticed(tmp_path: Path, mode: str) -> None:
    kept = KeptRound(tmp_path, MODES[mode])
    path = kept.kept / "site-4" / f"{kept.federation.digest.hex()}.npz"
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["bundle.1"][20] += 1
    np.savez(path, **arrays)
    assert not recompute_round(kept.sums, kept.kept)[1].exact
