"""Copies of what a site quantised, for a check of exactness by somebody whom the site trusts.

Only a flag on the site's own command line turns this on, since the copies are the site's update in the clear.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from edge_agent.training.outcome import TrainingOutcome
from ravan.identity.keyfiles import make_private_folder, write_private
from ravan.ids import BlockId, Digest
from ravan.manifest.assignment import Assignment
from ravan.manifest.roster import Bundle
from ravan.secagg.packing import Elements

log = structlog.stdlib.get_logger(__name__)


class QuantisedKeeper:
    """Write one `ASSIGNMENT_DIGEST.npz` a round.

    Arrays: `bundle.ID` the uint32 vector before masking; `update.BLOCK` (16 hexadecimal digits) the clipped
    float64 delta, row-major; `round` the round number; `run` the run id's bytes.
    """

    def __init__(self, folder: Path) -> None:
        """Write into `folder`, made when it is not there."""
        self._folder = folder

    def keep(
        self,
        assignment: Assignment,
        assignment_digest: Digest,
        bundles: Sequence[Bundle],
        update: TrainingOutcome,
        vectors: Mapping[int, Elements],
    ) -> None:
        """Write the round's copy; raise ResourceError DISK_FULL when there is no room."""
        clips = {spec.block_id: spec.clip for spec in assignment.blocks}
        blocks = [block for bundle in bundles for block in bundle.blocks]
        arrays: dict[str, NDArray[np.generic]] = {f"bundle.{number}": vector for number, vector in vectors.items()}
        arrays |= {f"update.{block.pack():016x}": _clipped(update, block, clips[block]) for block in blocks}
        arrays["round"] = np.array(assignment.round_number)
        arrays["run"] = np.frombuffer(assignment.run_id, np.uint8)
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **arrays)
        make_private_folder(self._folder)
        path = self._folder / f"{assignment_digest.hex()}.npz"
        write_private(path, file.getvalue())
        log.warning(
            "wrote this site's own update in the clear, as --keep-quantised asks",
            round=assignment.round_number,
            file=str(path),
        )


def _clipped(update: TrainingOutcome, block: BlockId, clip: float) -> NDArray[np.float64]:
    delta = update.deltas[block].astype(np.float64).ravel()
    norm = float(np.linalg.norm(delta))
    return delta * (clip / norm) if norm > clip else delta
