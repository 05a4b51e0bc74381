"""Jobs whose policy ranks the heads, on real processes: sites train parts of the model that are no run from the top."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from tiny_fleet import Fleet, running_fleet

from coordinator.allocation.ranking import rank_at_random
from ravan.codec.plans import decode_plan
from ravan.manifest.plan import JobPlan

SITES = ("north", "south", "west")
HEADS = 2


@dataclass(frozen=True)
class Played:
    """One round, by matrix."""

    trained: set[int]
    scores: dict[int, list[float]]
    """Of each matrix's heads."""


def run_job(fleet: Fleet, policy: str, rounds: int = 2) -> tuple[JobPlan, list[Played]]:
    """Run some rounds; return the plan and what each round released."""
    submitted = fleet.submit(job__rounds=rounds, allocation__policy=policy, adapter__heads=HEADS)
    assert submitted.returncode == 0, submitted.stderr
    fleet.await_job("completed")
    job = json.loads(fleet.hq("job", "show", "tiny", "--json").stdout)
    plan = decode_plan(bytes.fromhex(job["plan"]["payload"]))
    played = []
    for each in job["rounds"]:
        assert each["outcome"] == "committed"
        assert {cohort["survivors"] for cohort in each["cohorts"]} == {0, len(SITES)}
        trained = [cohort["block_id"] for cohort in each["cohorts"] if cohort["survivors"]]
        assert [site["heads"] for site in each["sites"]] == [len(trained)] * len(SITES)
        scores: dict[int, list[float]] = {}
        for cohort in each["cohorts"]:
            if cohort["score"] is not None:
                scores.setdefault(matrix_of(cohort["block_id"]), []).append(cohort["score"])
        played.append(Played(trained=set(map(matrix_of, trained)), scores=scores))
    return plan, played


def matrix_of(head: str) -> int:
    return int(head.split("/")[1].removeprefix("m"))


@pytest.mark.slow
def test_sites_train_the_heads_that_the_policy_ranks_first(tmp_path: Path) -> None:
    with running_fleet(tmp_path) as fleet:
        fleet.add_model()
        for name in SITES:
            fleet.enrol(name)
            fleet.start(name)
        plan, rounds = run_job(fleet, "random")
        count = len(plan.matrices)
        for number, played in enumerate(rounds, start=1):
            ranked = rank_at_random(plan.run_id, number)(count)[: count // 2]
            assert played.trained == {count - 1 - tile for tile in ranked}
        top = set(range(count // 2, count))
        plan, rounds = run_job(fleet, "weight")
        # No head has moved before the first round, and those that did come first ever after.
        assert [played.trained for played in rounds] == [top] * 2
        assert [played.scores for played in rounds] == [{}] * 2
        check_gradient(*run_job(fleet, "gradient", rounds=3))


def check_gradient(plan: JobPlan, rounds: list[Played]) -> None:
    count = len(plan.matrices)
    # Nothing is known before the first round; after the last one there is none to rank.
    assert rounds[0].trained == set(range(count // 2, count))
    assert [set(played.scores) for played in rounds] == [set(range(count))] * 2 + [set()]
    for before, after in pairwise(rounds):
        assert all(len(scores) == HEADS for scores in before.scores.values())
        # Each site's steepest head is at 1, and heads of one model are never equally steep at all sites.
        assert 1 / len(SITES) <= max(map(max, before.scores.values())) <= 1
        by_mean = sorted(before.scores, key=lambda matrix: sum(before.scores[matrix]), reverse=True)
        assert after.trained == set(by_mean[: count // 2])
