"""An agent refuses heads that its own measurement says it cannot hold, wherever they lie in the model."""

from __future__ import annotations

import pytest
from job_plans import plan_of

from edge_agent.session.acceptance import check_memory
from ravan.errors import ErrorReason, ResourceError
from ravan.ids import Digest
from ravan.manifest.profile import JobProfile

MIB = 1 << 20
PLAN = plan_of(4, heads=2)
PROFILE = JobProfile(
    plan_digest=Digest(bytes(32)),
    ram_loaded_bytes=400 * MIB,
    ram_floor_bytes=50 * MIB,
    ram_per_matrix_bytes=20 * MIB,
    step_floor_s=0.1,
    step_per_matrix_s=0.1,
)


@pytest.mark.parametrize(
    ("matrices", "needed"), [((), 450), ((3,), 470), ((2, 3), 490), ((1, 3), 510), ((0,), 530), ((0, 1, 2, 3), 530)]
)
def test_memory_is_that_of_all_matrices_from_the_top_to_the_lowest_trained(
    matrices: tuple[int, ...], needed: int
) -> None:
    trained = {*PLAN.dense_ids(), *(head for head in PLAN.head_ids() if head.matrix in matrices)}
    check_memory(PLAN, PROFILE, trained, needed * MIB)
    with pytest.raises(ResourceError) as caught:
        check_memory(PLAN, PROFILE, trained, needed * MIB - 1)
    assert caught.value.reason is ErrorReason.MEMORY_LIMIT
    assert f"takes {needed} MiB" in str(caught.value)
