"""An update that was trained for a round which ended before anything of it was masked.

Nothing of it has left the site, so the re-run of that round may have it instead of an hour of training anew.
After its first masking an update is consumed, and never comes here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edge_agent.training.outcome import TrainingOutcome
from ravan.data.stamp import Stamp
from ravan.ids import BlockId, Digest
from ravan.manifest.assignment import Assignment


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnmaskedUpdate:
    """What was trained, from where, and on what."""

    plan_digest: Digest
    state_digest: Digest
    trained: frozenset[BlockId]
    data_stamp: Stamp | None
    """None where an earlier process has trained it: nobody can say then whether they are still the same."""
    outcome: TrainingOutcome = field(repr=False)

    def serves(self, assignment: Assignment, index: int, data_stamp: Stamp) -> bool:
        """Tell whether member `index` would do the same again: same plan, version, blocks, scored heads and data."""
        return (
            self.plan_digest == assignment.plan_digest
            and self.state_digest == assignment.state_digest
            and self.trained == assignment.blocks_of(index)
            and self.outcome.scores.keys() == assignment.scored_by(index)
            and self.data_stamp == data_stamp
        )
