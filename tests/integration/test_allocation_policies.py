"""Jobs whose policy ranks the heads, on real processes: sites train parts of the model that are no run from the top."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_fleet import Fleet, running_fleet

from coordinator.allocation.ranking import rank_at_random
from ravan.codec.plans import decode_plan
from ravan.manifest.plan import JobPlan

SITES = ("north", "south", "west")
HEADS = 2


def run_job(fleet: Fleet, policy: str) -> tuple[JobPlan, list[set[int]]]:
    """Run two rounds; return the plan and the matrices that each round released."""
    submitted = fleet.submit(job__rounds=2, allocation__policy=policy, adapter__heads=HEADS)
    assert submitted.returncode == 0, submitted.stderr
    fleet.await_job("completed")
    job = json.loads(fleet.hq("job", "show", "tiny", "--json").stdout)
    plan = decode_plan(bytes.fromhex(job["plan"]["payload"]))
    rounds = []
    for each in job["rounds"]:
        assert each["outcome"] == "committed"
        assert {cohort["survivors"] for cohort in each["cohorts"]} == {0, len(SITES)}
        trained = [cohort["block_id"] for cohort in each["cohorts"] if cohort["survivors"]]
        assert [site["heads"] for site in each["sites"]] == [len(trained)] * len(SITES)
        rounds.append({int(head.split("/m")[1].split("/")[0]) for head in trained})
    return plan, rounds


@pytest.mark.slow
def test_sites_train_the_heads_that_the_policy_ranks_first(tmp_path: Path) -> None:
    with running_fleet(tmp_path) as fleet:
        fleet.add_model()
        for name in SITES:
            fleet.enrol(name)
            fleet.start(name)
        plan, rounds = run_job(fleet, "random")
        count = len(plan.matrices)
        for number, matrices in enumerate(rounds, start=1):
            ranked = rank_at_random(plan.run_id, number)(count)[: count // 2]
            assert matrices == {count - 1 - tile for tile in ranked}
        plan, rounds = run_job(fleet, "weight")
        # No head has moved before the first round, and those that did come first ever after.
        assert rounds == [set(range(count // 2, count))] * 2
